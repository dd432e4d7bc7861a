"""Write the data of docs/results/rephrase.md: sentences to train rephrasing on, prompts to test it.

    python benchmarks/rephrase_pairs.py --tokenizer MODEL_FOLDER --out FOLDER

`train.jsonl`, `validation.jsonl` and `test.jsonl` are for `sumcirc train data=files`: `document` is
a sentence, `summary` the same sentence with each adjective replaced by a synonym. `prompts.jsonl`
is for `sumcirc compare prompts=`; its prompts are those of `sumcirc.compare.items.rephrase`, as are
the sentences of `test.jsonl`. The three sets share no adjective, no synonym and no sentence.

Prompts come in blocks of four: two adjectives, each first in the wording that training uses (the
post's own) and then in one that it does not use. So all prompts of an adjective are in the same
half when `sumcirc compare` chooses components on every other prompt. Prompts whose two answers
are not single tokens of the tokenizer are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from sumcirc.compare.items.prompts import ContrastPrompt
from sumcirc.compare.items.rephrase import ADJECTIVES, POST, SENTENCES, WORDINGS, rephrase_prompt
from sumcirc.wire.draw import Draw

# adjective: the kinds of nouns that it can describe, and synonyms, as in ADJECTIVES
TRAINED: dict[str, tuple[str, str]] = {
    "gentle": ("person animal", "tender kind"),
    "friendly": ("person animal", "amiable"),
    "proud": ("person", "arrogant haughty"),
    "shy": ("person animal", "timid bashful"),
    "stubborn": ("person animal", "obstinate"),
    "jealous": ("person", "envious"),
    "greedy": ("person animal", "selfish"),
    "curious": ("person animal", "inquisitive"),
    "lonely": ("person animal", "solitary isolated"),
    "elegant": ("person thing", "graceful stylish"),
    "generous": ("person", "charitable"),
    "thin": ("person animal", "slim slender"),
    "fat": ("person animal", "plump chubby"),
    "young": ("person animal", "youthful"),
    "confused": ("person animal", "puzzled bewildered"),
    "surprised": ("person", "astonished startled"),
    "annoyed": ("person", "irritated"),
    "grateful": ("person", "thankful appreciative"),
    "humble": ("person", "modest"),
    "crazy": ("person idea", "insane"),
    "reckless": ("person idea", "rash careless"),
    "noble": ("person idea", "honorable"),
    "wicked": ("person idea", "evil sinister"),
    "fierce": ("animal", "ferocious savage"),
    "sleepy": ("person animal", "drowsy"),
    "silent": ("person place", "mute"),
    "diligent": ("person", "industrious hardworking"),
    "gifted": ("person", "brilliant"),
    "modern": ("place thing", "contemporary"),
    "narrow": ("place thing", "cramped"),
    "wide": ("place", "broad"),
    "dark": ("place", "gloomy dim"),
    "clean": ("place thing", "spotless tidy"),
    "warm": ("place", "cosy"),
    "hot": ("place", "scorching boiling"),
    "dry": ("place", "arid parched"),
    "remote": ("place", "distant faraway"),
    "crowded": ("place", "packed"),
    "pleasant": ("place idea", "agreeable nice"),
    "smooth": ("thing", "sleek"),
    "rough": ("thing", "coarse uneven"),
    "shiny": ("thing", "glossy gleaming"),
    "round": ("thing", "circular"),
    "shabby": ("place thing", "worn"),
    "valuable": ("thing idea", "precious"),
    "useful": ("thing idea", "handy helpful"),
    "rare": ("animal thing", "scarce uncommon"),
    "fake": ("thing", "counterfeit phony"),
    "complete": ("idea", "entire total"),
    "accurate": ("idea", "exact precise"),
    "clear": ("idea", "obvious evident"),
    "vague": ("idea", "unclear fuzzy"),
    "brief": ("idea", "short concise"),
    "lengthy": ("idea", "long extended"),
    "slow": ("animal idea", "sluggish gradual"),
    "perfect": ("idea thing", "flawless ideal"),
    "serious": ("idea person", "grave severe"),
    "urgent": ("idea", "pressing"),
    "exciting": ("idea place", "thrilling"),
    "interesting": ("idea place", "fascinating intriguing"),
    "final": ("idea", "ultimate concluding"),
}
VALIDATED: dict[str, tuple[str, str]] = {
    "enormous": ("animal place thing", "giant massive gigantic"),
    "genuine": ("thing idea", "real authentic"),
    "main": ("idea", "chief principal primary"),
    "wild": ("animal", "untamed"),
    "ready": ("person", "prepared"),
    "new": ("thing idea place", "fresh recent"),
    "tall": ("person", "high"),
    "soft": ("thing", "fluffy"),
    "practical": ("person idea", "pragmatic"),
    "popular": ("person place", "favorite beloved"),
    "false": ("idea", "untrue"),
    "safe": ("place idea", "secure"),
}
# One or two slots, named by the kind of noun; a frame that begins with a slot's "a" or "an" would
# give the sound of the answer away.
TRAINING_FRAMES: tuple[str, ...] = (
    "The {person} doctor opened the door to the garden.",
    "Our {person} cousin works in a shop near the harbor.",
    "The {person} farmer sold the {animal} goat on Saturday.",
    "His {person} grandmother baked bread for the whole school.",
    "The {person} nurse walked through the {place} corridor.",
    "Before lunch the {person} clerk found the {thing} key.",
    "My {person} boss listened to the {idea} speech.",
    "The {animal} rabbit hid under the bridge.",
    "Their {animal} parrot sat on top of the {thing} cage.",
    "At night the {animal} owl flew over the field.",
    "Her {animal} pony stayed in the {place} stable.",
    "The {place} valley was full of flowers.",
    "We walked through the {place} station with our bags.",
    "The {place} island can be seen from the ship.",
    "Her sister rented the {place} room above the bakery.",
    "The {thing} lamp was made in Italy.",
    "I gave the {thing} plate to my father.",
    "Your {thing} knife is next to the sink.",
    "The {person} artist painted the {thing} wall of the church.",
    "The {idea} report was sent to all members.",
    "They talked about the {idea} problem until midnight.",
    "Her {idea} reply came as an email.",
    "The {person} captain explained the {idea} rule to the crew.",
    "Yesterday the {idea} letter arrived from Berlin.",
)
VALIDATION_FRAMES: tuple[str, ...] = (
    "The {person} waiter brought two cups of tea.",
    "The {animal} lion looked at the visitors.",
    "The {place} library has eleven windows.",
    "The {thing} carpet was rolled up by the guests.",
    "The {idea} proposal convinced the minister.",
    "Our {person} guide waited at the gate.",
    "In summer the {animal} elephant drinks a lot of water.",
    "They sat down in the {place} theater.",
    "My {thing} camera fell into the river.",
    "His {idea} remark was printed in the newspaper.",
    "The {person} judge read the {idea} statement.",
)
SETS = {"train": (TRAINED, TRAINING_FRAMES), "validation": (VALIDATED, VALIDATION_FRAMES)}
KINDS = tuple(SENTENCES)


def pair(frame: str, chosen: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return a sentence and its rephrasing, from (adjective, synonym) by the kind of noun."""
    sides = ({kind: both[side] for kind, both in chosen.items()} for side in (0, 1))
    document, summary = (frame.format(**side) for side in sides)
    return {"document": document, "summary": summary}


def training_pairs(name: str, count: int, seed: int) -> list[dict[str, str]]:
    """Return `count` different pairs of a set, in which adjectives take turns.

    The sentence's first adjective is the one whose turn it is; another slot is filled at random.
    """
    words, frames = SETS[name]
    draw = Draw("rephrase pairs", name, str(seed))
    by_kind = {
        kind: [w for w, (nouns, _) in words.items() if kind in nouns.split()] for kind in KINDS
    }
    found: dict[str, dict[str, str]] = {}
    for _ in range(100 * count):
        for word in draw.shuffled(list(words)):
            kind = draw.pick(words[word][0].split())
            frame = draw.pick([one for one in frames if f"{{{kind}}}" in one])
            slots = [one for one in KINDS if f"{{{one}}}" in frame]
            chosen = {slot: draw.pick(by_kind[slot]) for slot in slots} | {kind: word}
            if len(set(chosen.values())) < len(chosen):
                continue
            both = {slot: (one, draw.pick(words[one][1].split())) for slot, one in chosen.items()}
            made = pair(frame, both)
            found.setdefault(made["document"], made)
            if len(found) == count:
                return list(found.values())
    raise SystemExit(f"{name}: only {len(found)} of {count} different sentences can be made")


def test_pairs() -> list[dict[str, str]]:
    """Each test adjective in one test sentence, with its first synonym."""
    found = []
    for number, (word, (nouns, synonyms)) in enumerate(ADJECTIVES.items()):
        sentences = fitting(word, synonyms, nouns)
        sentence = sentences[number % len(sentences)]
        sides = (sentence.replace("{adjective}", one) + "." for one in (word, synonyms.split()[0]))
        found.append(dict(zip(("document", "summary"), sides, strict=True)))
    return found


def fitting(word: str, synonyms: str, nouns: str) -> list[str]:
    """Return an adjective's test sentences that contain neither it nor one of its synonyms."""
    taken = {word, *synonyms.split()}
    every = (sentence for noun in nouns.split() for sentence in SENTENCES[noun])
    return [sentence for sentence in every if not taken & set(sentence.split())]


def prompts(tokenizer: Any, seed: int) -> list[ContrastPrompt]:
    """Return prompts in blocks of four, see the top of this file."""
    draw = Draw("rephrase prompts", str(seed))
    others = [one for one in WORDINGS if one != POST]
    made = []
    for word in draw.shuffled(list(ADJECTIVES)):
        nouns, synonyms = ADJECTIVES[word]
        answers = [one for one in synonyms.split() if single(tokenizer, one)]
        if not answers or not single(tokenizer, word):
            continue
        first, second = draw.shuffled(fitting(word, synonyms, nouns))[:2]
        answer, other = draw.pick(answers), others[len(made) % len(others)]
        made.append(
            (
                rephrase_prompt(f"{word}-post", first, word, answer, POST),
                rephrase_prompt(f"{word}-other", second, word, answer, other),
            )
        )
    blocks = zip(made[::2], made[1::2], strict=False)
    return [one for a, b in blocks for one in (a[0], b[0], a[1], b[1])]


def single(tokenizer: Any, word: str) -> bool:
    """Whether a word after a space is a single token."""
    return len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1


def line(prompt: ContrastPrompt) -> dict[str, Any]:
    """Return a prompt as a row of a file for `sumcirc compare prompts=`."""
    spans = [{"name": one.name, "characters": [one.start, one.end]} for one in prompt.spans]
    named = ("id", "prompt", "reply", "good", "bad")
    return {**{name: getattr(prompt, name) for name in named}, "spans": spans}


def write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    reader = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reader.add_argument("--tokenizer", type=Path, required=True, help="folder of the model")
    reader.add_argument("--out", type=Path, required=True, help="folder for the four files")
    reader.add_argument("--train", type=int, default=640, help="training pairs")
    reader.add_argument("--validation", type=int, default=40, help="validation pairs")
    reader.add_argument("--seed", type=int, default=0)
    options = reader.parse_args(arguments)
    made = prompts(AutoTokenizer.from_pretrained(options.tokenizer), options.seed)
    rows = {name: training_pairs(name, getattr(options, name), options.seed) for name in SETS}
    rows |= {"test": test_pairs(), "prompts": [line(one) for one in made]}
    options.out.mkdir(parents=True, exist_ok=True)
    for name, some in rows.items():
        write(options.out / f"{name}.jsonl", some)
    print(", ".join(f"{name}: {len(some)}" for name, some in rows.items()))


if __name__ == "__main__":
    main()
