"""The name lists keep out of each other's way, and of the phrasings'."""

from __future__ import annotations

import re

from sumcirc.wire import frames, lexicon
from sumcirc.wire.kinds import BY_NAME

LISTS = {
    "surnames": lexicon.SURNAMES,
    "women": lexicon.WOMEN,
    "men": lexicon.MEN,
    "places": lexicon.PLACES,
    "organizations": lexicon.ORGANIZATION_NAMES,
    "weekdays": lexicon.WEEKDAYS,
}


def _words(names: tuple[str, ...]) -> set[str]:
    return {word for name in names for word in name.split()}


def _phrasing_words() -> set[str]:
    texts: list[str] = []
    for kind in BY_NAME.values():
        for value in vars(kind).values():
            if isinstance(value, tuple):
                texts += [str(item) for item in value]
    for value in vars(frames).values():
        if isinstance(value, tuple):
            texts += value
    return set(re.findall(r"[A-Za-z-]+", " ".join(texts)))


def test_pools_are_large_and_without_repeats() -> None:
    least = {"surnames": 150, "women": 40, "men": 40, "places": 120, "organizations": 30}
    for name, size in least.items():
        assert len(LISTS[name]) >= size
        assert len(set(LISTS[name])) == len(LISTS[name])


def test_no_word_is_in_two_lists() -> None:
    names = list(LISTS)
    for index, one in enumerate(names):
        for other in names[:index]:
            assert not _words(LISTS[one]) & _words(LISTS[other]), (one, other)


def test_no_name_is_a_word_of_the_phrasings() -> None:
    used = _phrasing_words()
    for name, pool in LISTS.items():
        assert not _words(pool) & used, name


def test_no_surname_or_place_ends_in_s() -> None:
    assert not [name for name in (*lexicon.SURNAMES, *lexicon.PLACES) if name.endswith("s")]


def test_phrasings_have_no_digits() -> None:
    for kind in BY_NAME.values():
        for templates in vars(kind).values():
            if isinstance(templates, tuple):
                assert not re.search(r"\d", str(templates)), kind.name
