"""Prompts that ask to say a sentence in other words: a synonym is right, copying is not.

    The quick brown fox jumps over the lazy dog can be rephrased as: The

The good answer is ` swift`, a synonym of the sentence's first adjective, the bad one ` quick`. A
base model copies what stands there; a model that was taught to follow instructions rephrases. The
task is that of a post on this prompt in Llama-3; here it is varied over adjectives, sentences and
wordings, so that what is found is not of one sentence.
"""

from __future__ import annotations

from itertools import product

from sumcirc.compare.items.prompts import Prompt
from sumcirc.compare.items.rephrase_words import ADJECTIVES, SENTENCES, WORDINGS
from sumcirc.data.named_lines import NamedSpan
from sumcirc.errors import UserError
from sumcirc.wire.draw import Draw

SLOT = "{adjective}"


def rephrase_prompts(seed: int, count: int) -> list[Prompt]:
    """The first `count` of all prompts in an order of the seed; no two are the same.

    Adjectives take turns, so that few prompts come from one, and each takes its synonyms in turn. A
    smaller set is the beginning of a larger one. Spans: `adjective` in the sentence, `instruction`
    from the sentence's end to the colon, and the `colon`.

    Raises:
        UserError: there are fewer than `count`, or `count` is not positive.
    """
    kinds = Draw("rephrase", str(seed)).shuffled(list(ADJECTIVES))
    waiting = [_of(word, seed) for word in kinds]
    total = sum(map(len, waiting))
    if not 0 < count <= total:
        raise UserError(f"rephrase prompts: {count} are wanted; ask for 1 to {total}")
    found: list[Prompt] = []
    for turn in range(max(map(len, waiting))):
        found += [prompts[turn] for prompts in waiting if turn < len(prompts)]
    return found[:count]


def _of(word: str, seed: int) -> list[Prompt]:
    """All prompts of an adjective, in an order of the seed."""
    draw = Draw("rephrase", str(seed), word)
    nouns, synonyms = ADJECTIVES[word]
    sentences = [
        sentence
        for noun in nouns.split()
        for sentence in SENTENCES[noun]
        # a word that stands in the sentence anyway would be right or wrong for another reason
        if not {word, *synonyms.split()} & set(sentence.split())
    ]
    order = draw.shuffled(list(product(sentences, WORDINGS)))
    answers = draw.shuffled(synonyms.split())
    return [
        _prompt(f"{word}-{turn}", word, answers[turn % len(answers)], sentence, wording)
        for turn, (sentence, wording) in enumerate(order)
    ]


def _prompt(id: str, word: str, synonym: str, sentence: str, wording: str) -> Prompt:
    start = sentence.index(SLOT)
    stated = sentence.replace(SLOT, word)
    colon = len(stated) + 1 + len(wording)
    spans = (
        NamedSpan("adjective", start, start + len(word)),
        NamedSpan("instruction", len(stated) + 1, colon),
        NamedSpan("colon", colon, colon + 1),
    )
    prompt = f"{stated} {wording}: {sentence[:start].rstrip()}"
    return Prompt(f"rephrase-{id}", prompt, f" {synonym}", f" {word}", spans)
