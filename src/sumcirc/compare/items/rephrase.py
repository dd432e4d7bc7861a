"""Prompts that ask to rephrase a sentence: a synonym is correct, copying is not.

    The quick brown fox jumps over the lazy dog can be rephrased as: The

The good answer is ` swift`, a synonym of the sentence's first adjective; the bad one is ` quick`. A
base model tends to copy; a model that was trained to follow instructions rephrases. The task comes
from a post on this prompt in Llama-3 (docs/earlier.md); here it is varied over adjectives,
sentences and wordings, of which the last is the post's own, so that results do not depend on one
sentence.
"""

from __future__ import annotations

from itertools import product

from sumcirc.compare.items.prompts import ContrastPrompt
from sumcirc.data.named_lines import NamedSpan
from sumcirc.errors import UserError
from sumcirc.wire.draw import Draw

SLOT = "{adjective}"
SENTENCE = "{sentence}"

# adjective: the kinds of nouns that it can describe, and common synonyms
ADJECTIVES: dict[str, tuple[str, str]] = {
    "quick": ("animal", "swift fast rapid"),
    "clever": ("person animal", "smart bright intelligent"),
    "brave": ("person animal", "bold courageous fearless"),
    "angry": ("person animal", "furious mad"),
    "happy": ("person animal", "glad cheerful"),
    "sad": ("person", "unhappy miserable"),
    "tired": ("person animal", "weary exhausted"),
    "rich": ("person", "wealthy"),
    "famous": ("person place", "renowned celebrated"),
    "polite": ("person", "courteous respectful"),
    "honest": ("person", "truthful sincere"),
    "lazy": ("person animal", "idle"),
    "nervous": ("person animal", "anxious worried"),
    "foolish": ("person", "silly stupid"),
    "loyal": ("person animal", "faithful devoted"),
    "eager": ("person", "keen enthusiastic"),
    "careful": ("person animal", "cautious"),
    "scared": ("person animal", "frightened terrified"),
    "hungry": ("person animal", "starving"),
    "sick": ("person animal", "ill"),
    "wise": ("person", "sensible"),
    "cruel": ("person", "brutal harsh"),
    "strong": ("person animal", "powerful mighty"),
    "weak": ("person animal", "feeble frail"),
    "strange": ("person place thing idea", "odd weird peculiar"),
    "calm": ("person place", "peaceful quiet"),
    "lucky": ("person", "fortunate"),
    "skilled": ("person", "talented capable"),
    "big": ("animal place thing", "large huge"),
    "small": ("animal place thing", "little tiny"),
    "beautiful": ("animal place thing", "lovely pretty gorgeous"),
    "ugly": ("thing place", "hideous"),
    "old": ("thing place", "ancient"),
    "dirty": ("thing place", "filthy"),
    "empty": ("place", "vacant deserted"),
    "noisy": ("place", "loud"),
    "dangerous": ("place idea", "risky hazardous"),
    "cold": ("place", "chilly freezing"),
    "costly": ("thing idea", "expensive"),
    "cheap": ("thing", "inexpensive affordable"),
    "broken": ("thing", "damaged"),
    "heavy": ("thing", "hefty"),
    "wet": ("thing", "damp moist"),
    "fragile": ("thing", "delicate"),
    "sturdy": ("thing", "solid robust"),
    "wonderful": ("thing place idea", "amazing fantastic marvelous"),
    "terrible": ("place idea", "awful horrible dreadful"),
    "important": ("idea", "vital crucial significant"),
    "difficult": ("idea", "hard tough"),
    "easy": ("idea", "simple"),
    "wrong": ("idea", "incorrect mistaken"),
    "sudden": ("idea", "abrupt unexpected"),
    "boring": ("idea place", "dull tedious"),
    "funny": ("idea", "humorous amusing"),
    "secret": ("place idea", "hidden"),
    "common": ("idea", "usual ordinary typical"),
}

# Sentences by kind of noun; each fits every adjective for that kind. They begin with words that may
# precede any adjective (so not with "a" or "an"), since a rephrased sentence begins with the same
# words.
SENTENCES: dict[str, tuple[str, ...]] = {
    "animal": (
        "The {adjective} brown fox jumps over the lazy dog",
        "The {adjective} horse carried its rider across the river",
        "My {adjective} cat slept on the chair by the window",
        "Their {adjective} dog ran after the ball in the park",
        "The {adjective} bear walked back into the forest",
        "In the evening the {adjective} wolf came down from the hills",
    ),
    "person": (
        "The {adjective} teacher answered every question of the class",
        "The {adjective} king sent a letter to his brother",
        "Her {adjective} uncle lived in a house near the sea",
        "Our {adjective} neighbor planted three trees last spring",
        "The {adjective} sailor told us a story about the storm",
        "After the meeting the {adjective} lawyer called her sister",
        "This {adjective} student read the whole book in one night",
    ),
    "place": (
        "The {adjective} village lies between two mountains",
        "We spent our holiday in the {adjective} house by the lake",
        "Their {adjective} garden was closed to visitors in winter",
        "The {adjective} street leads from the station to the market",
        "Nobody in the {adjective} town had heard about the visit",
        "Last year the {adjective} museum was sold to a bank",
    ),
    "thing": (
        "The {adjective} table stood in the corner of the kitchen",
        "He put the {adjective} box on the shelf behind the door",
        "My {adjective} coat was left on the train to London",
        "She bought the {adjective} clock from a man in Paris",
        "Their {adjective} boat was painted white and blue",
        "On Monday the {adjective} chair was carried up the stairs",
    ),
    "idea": (
        "The {adjective} decision was made before the end of the week",
        "Everyone remembered the {adjective} answer that she gave",
        "His {adjective} plan was discussed for more than an hour",
        "The {adjective} question came up again at dinner",
        "In the morning the {adjective} news reached the capital",
        "Her {adjective} idea changed the way the company works",
    ),
}

POST = "Rephrase all the adjectives of the following sentence: {sentence}. Rephrased sentence:"

# what is asked about a sentence; ends in a colon, after which the answer begins
WORDINGS: tuple[str, ...] = (
    "{sentence} can be rephrased as:",
    "{sentence} can be rephrased in other words as:",
    "{sentence} could be rephrased with a synonym as:",
    "{sentence} can be rephrased to mean the same as follows:",
    POST,
)


def rephrase_prompts(seed: int, count: int) -> list[ContrastPrompt]:
    """Return the first `count` prompts, in a random order that depends on the seed.

    No two prompts are the same. Consecutive prompts have different adjectives, and the prompts with
    the same adjective use its synonyms in turn. With the same seed, fewer prompts are the beginning
    of more prompts. Their spans are those of `rephrase_prompt`.

    Args:
        seed: seed of the random order.
        count: number of prompts, at least 1.

    Raises:
        UserError: there are fewer than `count` prompts, or `count` is not positive.
    """
    kinds = Draw("rephrase", str(seed)).shuffled(list(ADJECTIVES))
    waiting = [_of(word, seed) for word in kinds]
    total = sum(map(len, waiting))
    if not 0 < count <= total:
        raise UserError(f"rephrase prompts: {count} were requested; ask for 1 to {total}")
    found: list[ContrastPrompt] = []
    for turn in range(max(map(len, waiting))):
        found += [prompts[turn] for prompts in waiting if turn < len(prompts)]
    return found[:count]


def _of(word: str, seed: int) -> list[ContrastPrompt]:
    """Return all prompts of an adjective, in an order that depends on the seed."""
    draw = Draw("rephrase", str(seed), word)
    nouns, synonyms = ADJECTIVES[word]
    sentences = [
        sentence
        for noun in nouns.split()
        for sentence in SENTENCES[noun]
        # a synonym that the sentence contains anyway could be predicted for another reason
        if not {word, *synonyms.split()} & set(sentence.split())
    ]
    order = draw.shuffled(list(product(sentences, WORDINGS)))
    answers = draw.shuffled(synonyms.split())
    return [
        rephrase_prompt(f"{word}-{turn}", sentence, word, answers[turn % len(answers)], wording)
        for turn, (sentence, wording) in enumerate(order)
    ]


def rephrase_prompt(
    id: str, sentence: str, word: str, synonym: str, wording: str
) -> ContrastPrompt:
    """Return the prompt that asks for a sentence with a synonym instead of its adjective.

    The answer begins with the sentence's words before the adjective. The spans are `adjective` (in
    the sentence), `instruction` (the words around the sentence, without the colon at the end) and
    `colon` (that one).

    Args:
        id: name of the prompt; `rephrase-` is put before it.
        sentence: the sentence, with `{adjective}` where the adjective belongs.
        word: the adjective, which is the bad answer.
        synonym: the good answer.
        wording: what is asked, with `{sentence}` where the sentence belongs; it ends in a colon.
    """
    begun = sentence.index(SLOT)
    stated = sentence.replace(SLOT, word)
    prompt = wording.replace(SENTENCE, stated)
    start, colon = wording.index(SENTENCE), len(prompt) - 1
    end = start + len(stated)
    spans = (
        NamedSpan("adjective", start + begun, start + begun + len(word)),
        *_instruction(prompt, 0, start),
        *_instruction(prompt, end, colon),
        NamedSpan("colon", colon, colon + 1),
    )
    reply = f" {sentence[:begun].rstrip()}"
    return ContrastPrompt(f"rephrase-{id}", prompt, f" {synonym}", f" {word}", spans, reply)


def _instruction(prompt: str, start: int, end: int) -> list[NamedSpan]:
    """Return the span of the words among the characters [start, end), if there are any."""
    text = prompt[start:end]
    left, right = len(text.lstrip(" .")), len(text.rstrip(" ."))
    return [NamedSpan("instruction", end - left, start + right)] if left else []
