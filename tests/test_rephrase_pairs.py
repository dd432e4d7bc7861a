"""benchmarks/rephrase_pairs.py: what is tested was not trained on, and each file is usable."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sumcirc.compare.items.prompts import prompt_items, read_prompts
from sumcirc.compare.items.rephrase import ADJECTIVES, POST, SENTENCES
from sumcirc.data.encoding import Encoder
from sumcirc.schema import EncodingConfig

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks/rephrase_pairs.py"
PIECES = " ?[^ :.]+|[:.]"
UNKNOWN = "hidden"  # a synonym that is no token of the tokenizer below


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Has a token for every word of the prompts but one."""
    words = {f" {word}" for one, (_, more) in ADJECTIVES.items() for word in (one, *more.split())}
    texts = [POST, *(one for some in SENTENCES.values() for one in some)]
    texts += [f" {text}" for text in texts]
    words |= {piece for text in texts for piece in re.findall(PIECES, text)}
    letters = {*"abcdefghijklmnopqrstuvwxyz"}
    numbered = {word: i for i, word in enumerate(["<s>", *sorted(words | letters)])}
    del numbered[f" {UNKNOWN}"]
    made = Tokenizer(models.WordLevel(numbered, unk_token="<s>"))
    split = pre_tokenizers.Split(Regex(rf" {UNKNOWN[:3]}|{PIECES}"), "isolated")
    made.pre_tokenizer = split  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<s>")


@pytest.fixture(scope="module")
def written(
    script: dict[str, Any],
    tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, list[dict[str, Any]]]:
    """The rows of each file, by its name; `folder` has the folder."""
    folder = tmp_path_factory.mktemp("pairs")
    tokenizer.save_pretrained(folder / "tokenizer")
    script["main"](["--tokenizer", str(folder / "tokenizer"), "--out", str(folder / "made")])
    files = (folder / "made").iterdir()
    return {
        file.stem: [json.loads(line) for line in file.read_text().splitlines()] for file in files
    }


def words_of(adjectives: dict[str, tuple[str, str]]) -> list[str]:
    return [word for one, (_, more) in adjectives.items() for word in (one, *more.split())]


def test_no_adjective_synonym_or_frame_is_in_two_sets(script: dict[str, Any]) -> None:
    sets = [script["TRAINED"], script["VALIDATED"], ADJECTIVES]
    words = [word for one in sets for word in set(words_of(one))]
    assert len(words) == len(set(words))
    texts = [script["TRAINING_FRAMES"], script["VALIDATION_FRAMES"]]
    texts.append(tuple(one for some in SENTENCES.values() for one in some))
    frames = [one.rstrip(".") for some in texts for one in some]
    assert len(frames) == len(set(frames))
    # nor does a sentence of one set contain a word that is exchanged in another
    spelled = [set(re.findall(r"[\w-]+", " ".join(some).lower())) for some in texts]
    for said in spelled:
        # the fox jumps over the lazy dog, of which no set but the test's has the adjective
        assert not said & (set(words) - {"lazy"})
    # the noun after the adjective differs too
    nouns = [set(re.findall(r"\} (\w+)", " ".join(some))) for some in texts]
    assert not nouns[0] & nouns[1] | nouns[0] & nouns[2] | nouns[1] & nouns[2]


def test_pairs_differ_in_their_adjectives_alone(
    script: dict[str, Any], written: dict[str, list[dict[str, Any]]]
) -> None:
    sets = {"train": script["TRAINED"], "validation": script["VALIDATED"], "test": ADJECTIVES}
    for name, adjectives in sets.items():
        rows = written[name]
        assert len({row["document"] for row in rows}) == len(rows)
        seen = set()
        for row in rows:
            before, after = (row[key].removesuffix(".").split() for key in ("document", "summary"))
            changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
            assert 1 <= len(changed) <= 2
            for word, synonym in changed:
                assert synonym in adjectives[word][1].split()
            seen |= {word for word, _ in changed}
        assert seen == set(adjectives), name
    assert len(written["train"]) == 640


def test_halves_of_the_prompts_share_no_adjective(
    written: dict[str, list[dict[str, Any]]], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    rows = written["prompts"]
    assert len(rows) % 4 == 0
    assert len(rows) >= 2 * (len(ADJECTIVES) - 3)
    halves = [{row["bad"] for row in rows[start::2]} for start in (0, 1)]
    assert not halves[0] & halves[1]
    for start in range(0, len(rows), 4):
        kinds = [row["id"].rsplit("-", 1)[1] for row in rows[start : start + 4]]
        assert kinds == ["post", "post", "other", "other"]
    for row in rows:
        posted = row["prompt"].startswith("Rephrase all the adjectives of the following sentence: ")
        assert posted == row["id"].endswith("-post")
        assert row["good"] != f" {UNKNOWN}"
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    encoder = Encoder(tokenizer, EncodingConfig(), 64)
    items, dropped = prompt_items(read_prompts(str(file), encoder), encoder)
    assert (len(items), sum(dropped.values())) == (len(rows), 0)
