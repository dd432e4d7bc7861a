"""Sentence splitting: rules, offsets and odd input."""

from __future__ import annotations

import pytest

from sumcirc.data.sentences import sentence_spans, split_sentences

# "|" marks where a sentence ends.
MARKED = [
    "The bank rose.| Shares fell!| Why?| Nobody knows…| It ended.",
    "Dr. Smith of the U.S. Army paid Mrs. Jones $3.5 million.| He left.",
    "He moved to the U.S.| The army followed.",
    "George W. Bush met J. K. Rowling.| It was Plan B.| They left.",
    "Apple Inc. Chairman Cook spoke.| He owns Apple Inc.| The firm is old.",
    "They married on Sept. 11 at No. 5.| He said no.| She died in Sept.| It rained.",
    "At 5 p.m. Tuesday it rained.| It stopped at 6 p.m.| The sun came out.",
    'He asked "Why?" and left.| "Go!"| She left (at last.)| "I will," he said.',
    "\u201cIt is big.\u201d| Broussard smiled.| \u2018Yes.\u2019| \u201cNo.\u201d",
    "We follow Vaswani et al. (2017), see Fig. 3 and Eq. 4.| Results (i.e. BLEU) rise, e.g. BERT.",
    "1. Introduction to it.| 2. It is late.",
    "By .| Daily Mail Reporter .| published: .| 10:49 EST .| the man left .",
    "in lower case.| all of it.| see mr. smith",
    "He was ill.| Bob did one more rep.| Ann left Chicago, Ill. Monday.",
    "A ratio of 0.5 vs. 0.7 was found.| 40 people came.",
]


@pytest.mark.parametrize("marked", MARKED)
def test_sentence_ends(marked: str) -> None:
    expected = [sentence.strip() for sentence in marked.split("|")]
    assert split_sentences(marked.replace("|", "")) == expected


def test_line_breaks_end_sentences() -> None:
    text = "#Person1#: Ms. Dawson, sit\n#Person2#: Yes, sir...\r\n\n  and so on  \n"
    assert split_sentences(text) == [
        "#Person1#: Ms. Dawson, sit",
        "#Person2#: Yes, sir...",
        "and so on",
    ]


@pytest.mark.parametrize("text", ["", " \n\t\u2028 ", "\x0b"])
def test_white_space_has_no_sentence(text: str) -> None:
    assert sentence_spans(text) == []


@pytest.mark.parametrize(
    "text",
    ["  One. Two? \n\n Three...  ", ". . .", '." "', "a\u2028b\x85c. D", "\u00a0X.\u3000Y. "],
)
def test_spans_are_ordered_stripped_and_leave_only_white_space(text: str) -> None:
    position = 0
    for start, end in sentence_spans(text):
        assert text[position:start].strip() == ""
        assert start < end
        assert text[start:end] == text[start:end].strip()
        position = end
    assert text[position:].strip() == ""


def test_splitting_the_sentences_again_changes_nothing() -> None:
    text = " ".join(marked.replace("|", "") for marked in MARKED)
    once = split_sentences(text)
    assert len(once) > 30
    assert split_sentences("\n".join(once)) == once


@pytest.mark.parametrize(
    "marked",
    [
        "他来了。|“真的吗？”|她说3.5次！？|好",
        "他来了!|真的?!|好",
        "「行く。」と言った。|値３．５だ．|終わり",
        "राम आया।| वह गया।|अंत",
        "هل جاء؟| نعم.| مشی۔| تم",
        "አበበ።| በላ",
        "Он пришёл.| Дом сгорел.| Кто?",
    ],
)
def test_marks_of_other_scripts(marked: str) -> None:
    """Chinese twice, Japanese, Hindi, Arabic with Urdu, Amharic, Russian; `|` ends a sentence."""
    text = marked.replace("|", "")
    assert split_sentences(text) == [part.strip() for part in marked.split("|")]


def test_a_script_without_marks_has_one_sentence_a_line() -> None:
    thai = "เขามา เขาไป"
    assert split_sentences(f"{thai}\n{thai}") == [thai, thai]
