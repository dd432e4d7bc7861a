"""Salience of short texts worked out by hand, and its alignment against scipy."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from rouge_score.tokenizers import DefaultTokenizer
from scipy.stats import spearmanr

from sumcirc.measures.salience import salience_alignment, token_salience


def by_word(document: str, reference: str) -> list[tuple[str, int]]:
    """Salience of each run of letters and digits, and of each mark."""
    spans = [match.span() for match in re.finditer(r"[^\W_]+|[^\w\s]|_", document)]
    found = token_salience(document, spans, reference)
    assert found.dtype == np.float32
    words = (document[start:end] for start, end in spans)
    return list(zip(words, found.astype(int).tolist(), strict=True))


def test_by_hand() -> None:
    # bigrams of the reference: two storm, storm hit, hit the, the coast, coast today
    document = "Storms hit the northern coast. The coast was calm today, two storms passed."
    assert by_word(document, "Two storms hit the coast today") == [
        ("Storms", 2),  # itself and "storm hit"; it opens the text
        ("hit", 3),
        ("the", 2),  # "the northern" is not there
        ("northern", 0),
        ("coast", 1),  # "coast the" is not there
        (".", 0),
        ("The", 2),
        ("coast", 2),  # "the coast", not "coast was"
        ("was", 0),
        ("calm", 0),
        ("today", 1),
        (",", 0),
        ("two", 2),
        ("storms", 2),
        ("passed", 0),
        (".", 0),
    ]


def test_words_meet_by_their_stems() -> None:
    """Porter: "floods", "flooding" and "flooded" are "flood"; short words are not stemmed."""
    assert by_word("Flooding cats", "It flooded; the cat ran.") == [("Flooding", 1), ("cats", 1)]
    assert by_word("gas was", "ga wa") == [("gas", 0), ("was", 0)]
    assert by_word("the policies", "The policy") == [("the", 2), ("policies", 2)]


def test_hyphens_and_apostrophes_part_words() -> None:
    assert by_word("A well-known actor's son", "the well known actor") == [
        ("A", 0),
        ("well", 2),
        ("-", 0),
        ("known", 3),
        ("actor", 2),
        ("'", 0),
        ("s", 0),
        ("son", 0),
    ]


def test_repeated_words_count_each_time() -> None:
    assert by_word("no no yes no", "no no") == [("no", 2), ("no", 2), ("yes", 0), ("no", 1)]


def test_a_letter_that_rouge_does_not_know_parts_a_word() -> None:
    # "Müller" is m and ller to ROUGE, "東京" is nothing; "İzmir" lengthens when lower-cased
    document = "İzmir: Müller 東京 5\u212am"  # the Kelvin sign is a k in lower case
    reference = "M. ller ran 5km from Izmir to İzmir"
    spans = [(0, 5), (1, 5), (7, 8), (8, 9), (9, 13), (7, 13), (14, 16), (17, 20), (18, 19)]
    found = token_salience(document, spans, reference)
    #  words: i zmir m ller 5km; bigrams in the reference: m ller, i zmir
    assert found.tolist() == [2, 2, 2, 0, 2, 2, 0, 1, 1]


def test_tokens_have_the_salience_of_the_word_they_overlap_most() -> None:
    document = "calm storms, then rain"
    reference = "storms"
    spans = {
        (4, 8): 1,  # " sto"
        (8, 11): 1,  # "rms"
        (11, 12): 0,  # ","
        (2, 8): 1,  # "lm sto"
        (0, 7): 0,  # "calm st"
        (2, 7): 0,  # "lm st": as much of either, and the first counts
        (4, 5): 0,  # white space
        (5, 5): 0,  # nothing
        (9, 22): 0,  # "ms, then rain"
        (12, 99): 0,
    }
    assert dict(zip(spans, token_salience(document, list(spans), reference), strict=True)) == spans


@pytest.mark.parametrize("document", ["", "...", "word"])
def test_next_to_no_text(document: str) -> None:
    assert token_salience(document, [], "word").shape == (0,)
    expected = [1.0 if document == "word" else 0.0, 0.0]
    assert token_salience(document, [(0, 4), (0, 0)], "word").tolist() == expected
    assert token_salience(document, [(0, 4)], "").tolist() == [0.0]


def test_words_and_stems_are_those_of_rouge() -> None:
    """By a loop over ROUGE's own tokens of the document."""
    document = (
        "On Sept. 11th, U.S. officials’ re-examined ministries; café-owners (İnci & Ødegård)"
        " were re-opening 1,200 stores_and_shops — naïvely hoping for policies’ changes…"
    )
    reference = "Officials re-open 1,200 stores and shops; the café owner hoped policy changed"
    rouge = DefaultTokenizer(use_stemmer=True)
    words, known = rouge.tokenize(document), rouge.tokenize(reference)
    bigrams = set(pairwise(known))
    expected = [
        (word in known)
        + (i > 0 and (words[i - 1], word) in bigrams)
        + (i + 1 < len(words) and (word, words[i + 1]) in bigrams)
        for i, word in enumerate(words)
    ]
    each = token_salience(document, [(i, i + 1) for i in range(len(document))], reference)
    # "İnci" is two words of which one is the dotted I
    starts = [m.start() for m in re.finditer(r"[A-Za-z0-9]+|İ", document)]
    assert len(starts) == len(words)
    assert each[starts].tolist() == expected
    assert {1, 2, 3} <= set(expected)


def test_alignment_is_that_of_scipy_for_every_head() -> None:
    attention = torch.rand(2, 3, 60, generator=torch.Generator().manual_seed(0))
    attention[0, 1] = attention[0, 1].mul(5).round()  # ties
    salience = torch.randint(4, (60,), generator=torch.Generator().manual_seed(1)).float()
    found = salience_alignment(attention, salience)
    assert found.shape == (2, 3)
    for head in np.ndindex(2, 3):
        expected = spearmanr(attention[head], salience)[0]
        assert found[head].item() == pytest.approx(expected, abs=1e-6)


def test_a_head_that_reads_by_salience_is_aligned() -> None:
    salience = torch.tensor([0.0, 3.0, 1.0, 2.0, 0.0])
    attention = torch.stack([salience.exp(), -salience]).softmax(-1)
    np.testing.assert_allclose(salience_alignment(attention, salience), [1, -1], atol=1e-6)


def test_alignment_needs_an_order_on_both_sides() -> None:
    attention = torch.tensor([[0.2, 0.2, 0.2], [0.5, 0.1, 0.2]])
    assert salience_alignment(attention, torch.tensor([0.0, 1, 2])).isnan().tolist() == [
        True,
        False,
    ]
    assert salience_alignment(attention, torch.ones(3)).isnan().all()
    assert salience_alignment(attention[:, :0], torch.ones(0)).isnan().all()
