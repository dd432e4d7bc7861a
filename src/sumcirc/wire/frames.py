"""Phrasings for every kind of event: quotes, the second event, and the return to the main event.

`{clause}` is the second event as a clause, `{case}` a noun for it, `{quote}` the words that
somebody said, `{source}` the speaker; these are replaced before a template is parsed.
"""

from __future__ import annotations

PERSON_QUOTES: tuple[str, ...] = (
    "<{quote},> {speaker} said",
    "<{quote},> {speaker} said [later|afterward|by telephone]",
    "<{quote},> {speaker} told reporters",
    "<{quote},> {speaker} said [at a news conference|when it was over]",
    "{speaker} [put it plainly|was in no doubt|had a simple answer]: <{quote}.>",
    "{speaker} [told reporters|said afterward]: <{quote}.>",
)

OTHER_QUOTES: tuple[str, ...] = (
    "<{quote},> {source} said",
    "<{quote},> said {source}",
    "<{quote},> {source} told reporters",
    "in the words of {source}: <{quote}.>",
    "{source} said: <{quote}.>",
)

THIS_WEEK_SAME_KIND: tuple[str, ...] = (
    "in [an unrelated|a separate|a different] {case}, {clause}",
    "[elsewhere in the region|some distance away|in another part of the country], {clause}",
    "[separately|meanwhile], {clause}",
    "there was no link, officials said, to {a case} in which {clause}",
    "[it is not to be confused with|reports had first mixed it up with] {a case} in which {clause}",
)

THIS_WEEK_OTHER_KIND: tuple[str, ...] = (
    "in other news, {clause}",
    "[elsewhere in the region|some distance away|in another part of the country], {clause}",
    "[separately|meanwhile], {clause}",
    "also this week, {clause}",
    "on the same page of the local paper: {clause}",
)

# After these the weekday is in some other week: "on a Friday".
LONG_AGO_SAME_KIND: tuple[str, ...] = (
    "[two months|a year|six weeks|half a year] earlier, {clause}",
    "the news came [a month|two weeks|not long] after {clause}",
    "it [recalled|brought back memories of] {a case} last [spring|autumn], when {clause}",
    "the last such {case} was [two years ago|last winter], when {clause}",
)

LONG_AGO_FIRST: tuple[str, ...] = (
    "[only|just] last month, {clause}",
    "[three|five|two] weeks ago, {clause}",
    "it is [barely|only] a month since {clause}",
    "the region had hardly forgotten how {clause}",
    "the papers were still full of {a case} in which {clause}",
)

# A name is never the first word of a text, where a byte-level BPE encodes it differently.
DATELINES: tuple[str, ...] = (
    "news from {where} - {capital}",
    "wire report, {where} - {capital}",
    "wire report, {where}, {when} - {capital}",
)

ANCHORS: tuple[str, ...] = ("in {where}, ", "back in {where}, ")
CASE_ANCHOR = "in the {where} {case}, "
