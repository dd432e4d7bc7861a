"""Events that differ in everything, and the split of a combination of names."""

from __future__ import annotations

from collections import Counter

from sumcirc.wire import KINDS, lexicon
from sumcirc.wire.cast import draw_cast, format_number, split_of
from sumcirc.wire.draw import Draw
from sumcirc.wire.kinds import BY_NAME


def test_split_shares() -> None:
    shares = Counter(
        split_of((f"Ivo {surname}", place, "Harbor Police"))
        for surname in lexicon.SURNAMES
        for place in lexicon.PLACES[:40]
    )
    total = sum(shares.values())
    expected = {"pretrain": 0.6, "train": 0.2, "validation": 0.1, "test": 0.1}
    assert shares.keys() == expected.keys()
    for split, share in expected.items():
        assert abs(shares[split] / total - share) < 0.02, split


def test_split_is_a_fixed_function_of_the_names() -> None:
    names = [("Grace Okafor", place, "Harbor Police") for place in lexicon.PLACES[:5]]
    assert [split_of(name) for name in names] == ["train", "pretrain", "test", "train", "pretrain"]


def test_second_event_shares_nothing_with_the_first() -> None:
    draw = Draw("cast")
    for name in KINDS:
        for _ in range(40):
            one = draw_cast(BY_NAME[name], draw)
            other = draw_cast(BY_NAME[name], draw, apart_from=one)
            assert not set(one.facts.values()) & set(other.facts.values())
            people = [*one.entities[0].split(), *other.entities[0].split(), *one.voice.split()]
            assert len(set(people)) == 6
            assert one.organization != other.organization
            assert one.rival.split()[-2:] != one.organization.split()[-2:]


def test_numbers_are_plural_and_formatted() -> None:
    assert format_number(1284) == "1,284"
    assert format_number(37) == "37"
    assert all(min(kind.numbers) >= 2 for kind in BY_NAME.values())
