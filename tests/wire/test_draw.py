"""Choices that don't depend on the process or on the version of Python."""

from __future__ import annotations

from collections import Counter

from sumcirc.wire.draw import Draw, stable_hash


def test_hash_and_choices_are_fixed_values() -> None:
    assert stable_hash("a", "b") == 17891760522800452624
    assert stable_hash("ab") != stable_hash("a", "b")
    draw = Draw("wire", "0")
    assert [draw.pick(range(100)) for _ in range(6)] == [86, 91, 66, 68, 21, 81]


def test_streams_differ_by_key_and_repeat() -> None:
    assert Draw("a").shuffled(range(50)) == Draw("a").shuffled(range(50))
    assert Draw("a").shuffled(range(50)) != Draw("b").shuffled(range(50))


def test_shuffles_are_permutations_and_even() -> None:
    draw = Draw("even")
    orders = Counter(tuple(draw.shuffled("abc")) for _ in range(6000))
    assert len(orders) == 6
    assert all(850 < count < 1150 for count in orders.values())


def test_chance() -> None:
    draw = Draw("chance")
    assert 2850 < sum(draw.chance(0.3) for _ in range(10000)) < 3150
