"""Prompts with two answers: read from a file, refused line by line, made into items."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.compare.items.item_set import LOGIT_DIFFERENCE, ItemSet
from sumcirc.compare.items.prompts import ContrastPrompt, prompt_items, read_prompts
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import NONE
from sumcirc.data.named_lines import NamedSpan
from sumcirc.errors import UserError
from sumcirc.schema import EncodingConfig

TEXT = "The boat is in the harbour near"
LINE = {"prompt": TEXT, "good": " 7", "bad": " 8"}
STRANGE = "[bold]Ada[/bold] \x1b[31mand\x1b[0m Bo\u2028went \u202eto 🌧️ São Tomé [/] "


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """Of words: each of those below is a token, of any other each letter is."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    words = [*TEXT.split(), "7", "8", "slow", "quick"]
    trained.train_from_iterator(
        [f" {word}" for word in words] * 5, vocab_size=500, special_tokens=["<s>"]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="<s>")
    return Encoder(tokenizer, EncodingConfig(), 64)


@pytest.fixture(scope="module")
def starting(encoder: Encoder) -> Encoder:
    """The same, but every text starts with <s>."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(encoder.tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="<s>")
    return Encoder(made, EncodingConfig(), 64)


def written(folder: Path, *lines: Any) -> str:
    file = folder / "own.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("which", ["encoder", "starting"])
def test_the_last_token_is_read(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    encoder = request.getfixturevalue(which)
    file = written(tmp_path, LINE, {**LINE, "id": 5, "prompt": f"{TEXT} the", "bad": " quick"})
    items, dropped = prompt_items(read_prompts(file, encoder), encoder)
    assert dropped == {}
    assert [item.id for item in items] == ["line-1", "5"]
    for item, prompt, bad in zip(items, (TEXT, f"{TEXT} the"), (" 8", " quick"), strict=True):
        whole = encoder.tokenizer(f"{prompt} 7").input_ids
        assert item.ids.tolist() == whole[:-1]
        assert np.flatnonzero(item.good != NONE).tolist() == [len(whole) - 2]
        assert item.good[-1] == whole[-1]
        assert np.flatnonzero(item.bad != NONE).tolist() == [len(whole) - 2]
        assert encoder.decode([int(item.bad[-1])]) == bad
        assert item.spans == {}
    assert (items[0].ids[0] == 0) == (which == "starting")
    assert ItemSet(items).metric == LOGIT_DIFFERENCE


def test_prompts_of_a_batch_have_the_same_length(encoder: Encoder) -> None:
    """So that a patched pass runs one position of each; documents are still batched together."""
    endings = ("", " the", " the boat", " the", "", " the", " in")
    prompts = [
        ContrastPrompt(str(place), f"{TEXT}{ending}", " 7", " 8")
        for place, ending in enumerate(endings)
    ]
    items = ItemSet(prompt_items(prompts, encoder)[0])
    assert [batch.places for batch in items.batches(3)] == [[0, 4], [1, 3, 5], [6], [2]]
    assert [batch.places for batch in items.batches(2)] == [[0, 4], [1, 3], [5, 6], [2]]
    for item in items.items:
        item.good[2] = item.bad[2] = 1
    assert [batch.places for batch in items.batches(4)] == [[0, 4, 1, 3], [5, 6, 2]]


@pytest.mark.parametrize("which", ["encoder", "starting"])
def test_spans_may_overlap(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    encoder = request.getfixturevalue(which)
    spans = [
        {"name": "place", "characters": [12, 26]},
        {"name": "noun", "characters": [4, 8]},
        {"name": "noun", "characters": [19, 26]},
        {"name": "start", "characters": [0, 3]},
    ]
    (item,), _ = prompt_items(
        read_prompts(written(tmp_path, {**LINE, "spans": spans}), encoder), encoder
    )
    words = {name: encoder.decode(item.ids[span].tolist()) for name, span in item.spans.items()}
    assert words == {"place": " in the harbour", "noun": " boat harbour", "start": "The"}
    assert all(len(span) == len(item.ids) for span in item.spans.values())


def test_what_is_written_is_read_back(encoder: Encoder, tmp_path: Path) -> None:
    spans = (NamedSpan("a", 0, 4), NamedSpan("b", 2, 9))
    prompts = [
        ContrastPrompt("first", TEXT, " 7", " 8", spans),
        ContrastPrompt("<2>\n", f"{STRANGE[:20]} near", " slow", " quick"),
    ]
    file = tmp_path / "prompts.jsonl"
    lines = []
    for prompt in prompts:
        marked = [{"name": one.name, "characters": [one.start, one.end]} for one in prompt.spans]
        lines.append(json.dumps(asdict(prompt) | {"spans": marked}) + "\n")
    file.write_text("".join(lines), encoding="utf-8")
    assert read_prompts(str(file), encoder) == prompts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": ""}, r"line 2 \(`x`\): its `prompt` is \"\"; give a text"),
        ({"good": None}, r"line 2 \(`x`\): its `good` is null; give a text"),
        ({"bad": 5}, r"its `bad` is 5; give a text"),
        ({"bad": " 7"}, r"good and bad are both \" 7\"; give two answers"),
        (
            {"good": " odd"},
            r"`x`\): `good`=\" odd\" is 4 tokens \(\" \" \+ \"o\" \+ \"d\" \+ \"d\"\), but one is"
            r" read; give a word that is a single token of this model",
        ),
        ({"bad": " slow quick slow quick slow"}, r"`bad`=.* is 5 tokens \(.* \.\.\.\), but one"),
        ({"prompt": f"{TEXT} ", "good": "7"}, r"`good`=\"7\" runs into the last .* `prompt` not"),
        ({"prompt": TEXT * 10}, r"tokens are more than the 64 that the model takes; shorten"),
        ({"prompts": []}, r"line 2: `prompts` is unknown; did you mean `prompt`\?"),
        ({"span": []}, r"line 2: `span` is unknown; did you mean `spans`\?"),
        ({"id": [1]}, r"line 2: its id is \[1\]; give a text or a whole number"),
        ({"id": "line-1"}, r"line 2 \(`line-1`\): has the id of line 1"),
        ({"spans": [{"name": "a", "characters": [4, 32]}]}, r"a span is .*within 0 and 31"),
        ({"spans": [{"name": "a", "characters": [-1, 3]}]}, r"a span is .*within 0 and 31"),
        ({"spans": [{"name": "", "characters": [4, 8]}]}, r"give each a `name`"),
        ({"spans": [{"name": "a", "characters": [5, 6]}]}, r"span `a` .*last character of no"),
        ({"spans": [{"name": "last", "characters": [4, 8]}]}, r"named `last`, .* another name"),
    ],
)
def test_mistakes_name_line_and_remedy(
    encoder: Encoder, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    file = written(tmp_path, LINE, {**LINE, "id": "x"} | change)
    with pytest.raises(UserError, match=message) as refused:
        read_prompts(file, encoder)
    assert str(refused.value).startswith(f"prompts={file}: line 2")
    assert "\n" not in str(refused.value)


def test_one_token_for_two_answers_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"<s>": 0, "the": 1, "boat": 2, "car": 3}, "<s>"))
    backend.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    backend.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<s>")
    encoder = Encoder(made, EncodingConfig(), 64)
    line = {"prompt": "The", "good": " boat", "bad": " Boat"}
    with pytest.raises(UserError, match="are the same token of this model; give two answers"):
        read_prompts(written(tmp_path, line), encoder)
    prompts = [
        ContrastPrompt("a", "The", " boat", " Boat"),
        ContrastPrompt("b", "The", " boat", " car"),
    ]
    items, dropped = prompt_items(prompts, encoder)
    assert ([item.id for item in items], dropped) == (["b"], {"answers of several tokens": 1})


def test_prompts_that_were_made_are_dropped_and_counted(encoder: Encoder) -> None:
    prompts = [
        ContrastPrompt("many", TEXT, " odd", " 7"),
        ContrastPrompt("fits", TEXT, " 7", " 8"),
        ContrastPrompt("others", TEXT, " 7", " odd"),
        ContrastPrompt("runs in", f"{TEXT} ", "7", "8"),
    ]
    items, dropped = prompt_items(prompts, encoder)
    assert [item.id for item in items] == ["fits"]
    assert dropped == {"answers of several tokens": 3}
    with pytest.raises(UserError, match="none of 1 has two answers that are single tokens"):
        prompt_items(prompts[:1], encoder)
    with pytest.raises(UserError, match=r"prompts: `long`: 68 tokens are more than the 64"):
        prompt_items([ContrastPrompt("long", " ".join(["boat"] * 67), " 7", " 8")], encoder)


def test_files_that_are_none(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the file has no line; give one prompt a line"):
        read_prompts(written(tmp_path, "", ""), encoder)
    with pytest.raises(UserError, match="no such file"):
        read_prompts(str(tmp_path / "none.jsonl"), encoder)
    table = tmp_path / "prompts.csv"
    table.write_text("prompt,good,bad\na,b,c\n")
    with pytest.raises(UserError, match=r"name one file of JSON lines, NAME\.jsonl"):
        read_prompts(str(table), encoder)
