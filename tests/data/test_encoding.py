"""What a training sequence keeps, what it loses, and where its loss begins."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.data.documents import Corpus, Document
from sumcirc.data.encoding import DOCUMENT, PARTS, PROMPT, EncodedCorpus, Encoder
from sumcirc.data.examples import NoExample, TokenExample
from sumcirc.data.sentences import split_sentences
from sumcirc.errors import UserError
from sumcirc.runtime.notices import counts
from sumcirc.schema import EncodingConfig
from tests.support.small_tokenizers import KINDS, LOSSLESS, small_tokenizer

SENTENCES = [f"A storm reached town {i} and closed {i + 2} roads." for i in range(30)]
LONG = " ".join(SENTENCES)
SUMMARY = "Storm closes roads."
PROMPT_END = "\nTL;DR:"


def encoder(tokenizer: Any, context: int = 128, **changes: Any) -> Encoder:
    return Encoder(tokenizer, EncodingConfig(**changes), context)


def item(document: str, summary: str = SUMMARY) -> Document:
    return Document("a", document, (summary, "another reference"))


def encode(using: Encoder, document: str, summary: str = SUMMARY) -> TokenExample:
    return using.example(item(document, summary))


def parts(using: Encoder, pair: TokenExample) -> tuple[str, str]:
    """Text of the prompt and of the summary."""
    decode = using.tokenizer.decode
    return str(decode(pair.ids[: pair.prompt_length])), str(decode(pair.ids[pair.prompt_length :]))


def test_short_pair_is_prompt_then_summary_then_eos(tokenizer: Any) -> None:
    using = encoder(tokenizer)
    pair = encode(using, SENTENCES[0])
    assert parts(using, pair) == (f"{SENTENCES[0]}\nTL;DR:", f" {SUMMARY}<|endoftext|>")
    assert pair.ids[-1] == tokenizer.eos_token_id
    assert not pair.truncated
    whole = tokenizer(f"{SENTENCES[0]}\nTL;DR:").input_ids
    assert pair.ids[: pair.prompt_length].tolist() == whole


def test_eos_belongs_to_the_summary_though_it_also_pads(tokenizer: Any) -> None:
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    pair = encode(encoder(tokenizer), SENTENCES[0])
    assert tokenizer.eos_token_id in pair.ids[pair.prompt_length :]
    assert tokenizer.eos_token_id not in pair.ids[: pair.prompt_length]


def test_long_document_is_cut_at_a_sentence_end_and_nothing_else_is(tokenizer: Any) -> None:
    using = encoder(tokenizer)
    pair = encode(using, LONG)
    prompt, summary = parts(using, pair)
    assert pair.truncated
    assert len(pair) <= 128
    assert summary == f" {SUMMARY}<|endoftext|>"
    assert prompt.endswith(PROMPT_END)
    kept = split_sentences(prompt.removesuffix(PROMPT_END))
    assert kept == SENTENCES[: len(kept)]
    # one sentence more would not have fitted
    room = 128 - (len(pair) - pair.prompt_length)
    longer = " ".join(SENTENCES[: len(kept) + 1]) + PROMPT_END
    assert len(tokenizer(longer).input_ids) > room


def test_document_exactly_at_the_limit_is_whole_and_one_less_cuts_it(tokenizer: Any) -> None:
    document = " ".join(SENTENCES[:3])
    length = len(encode(encoder(tokenizer, 10_000), document))
    exact = encode(encoder(tokenizer, length), document)
    assert (len(exact), exact.truncated) == (length, False)
    less = encoder(tokenizer, length - 1)
    cut = encode(less, document)
    assert cut.truncated
    assert parts(less, cut)[0] == " ".join(SENTENCES[:2]) + PROMPT_END


def test_first_sentence_too_long_is_cut_inside(tokenizer: Any) -> None:
    sentence = "A storm " + "closed roads and " * 200 + "ended."
    using = encoder(tokenizer)
    pair = encode(using, sentence + " Short one.")
    prompt, summary = parts(using, pair)
    assert pair.truncated
    assert 120 <= len(pair) <= 128
    assert summary == f" {SUMMARY}<|endoftext|>"
    assert sentence.startswith(prompt.removesuffix(PROMPT_END))
    assert len(prompt) > len(PROMPT_END)


@pytest.mark.parametrize(
    "document",
    ["嵐が町に達した。" * 60, "🌪️👩‍👩‍👧‍👦é" * 60, "Straße–ünïcödé… " * 60],
    ids=["one sentence without spaces", "emoji of several code points", "accents"],
)
def test_cut_leaves_no_half_character(tokenizer: Any, document: str) -> None:
    using = encoder(tokenizer)
    pair = encode(using, document)
    prompt = parts(using, pair)[0]
    assert pair.truncated
    assert len(pair) <= 128
    assert "\ufffd" not in prompt
    assert document.startswith(prompt.removesuffix(PROMPT_END))


def test_nothing_left_of_the_document_drops_the_pair(tokenizer: Any) -> None:
    frame = len(tokenizer(PROMPT_END).input_ids)
    summary = len(encoder(tokenizer).summary(SUMMARY))
    emoji = "🌪️" * 5  # a character of several tokens
    assert len(tokenizer("🌪").input_ids) > 1
    for room, document in ((0, "word"), (1, emoji)):
        with pytest.raises(NoExample, match="summary too long"):
            encoder(tokenizer, frame + summary + room).example(item(document))
    assert len(encoder(tokenizer, frame + summary + 1).example(item("A b c d")))


def test_summary_longer_than_its_limit_drops_the_pair(tokenizer: Any) -> None:
    tokens = len(tokenizer(f" {SUMMARY}").input_ids)
    assert len(encoder(tokenizer, max_summary_tokens=tokens).example(item("A document.")))
    with pytest.raises(NoExample):
        encoder(tokenizer, max_summary_tokens=tokens - 1).example(item("A document."))


def test_only_the_first_reference_is_learnt(tokenizer: Any) -> None:
    using = encoder(tokenizer)
    assert "another" not in parts(using, encode(using, "A document."))[1]


def test_tokenizer_that_adds_bos_gives_one_at_the_start_and_nowhere_else(
    bos_tokenizer: Any,
) -> None:
    using = encoder(bos_tokenizer)
    for document in (SENTENCES[0], LONG, "closed roads and " * 300):
        pair = encode(using, document)
        assert len(pair) <= 128
        assert pair.ids[0] == bos_tokenizer.bos_token_id
        assert bos_tokenizer.bos_token_id not in pair.ids[1:]
        assert pair.ids[-1] == bos_tokenizer.eos_token_id
        assert using.prompt(document, pair.prompt_length).ids[0] == bos_tokenizer.bos_token_id


def test_tokenizer_without_bos_gets_none(tokenizer: Any) -> None:
    assert encode(encoder(tokenizer), SENTENCES[0]).ids[0] != tokenizer.bos_token_id


def test_braces_in_texts_and_templates_are_only_text(tokenizer: Any) -> None:
    using = encoder(tokenizer, prompt="{x} {document} {}", summary=" {summary} {y} {0}")
    prompt, summary = parts(using, encode(using, "{document} {z}", "{summary} {"))
    assert prompt == "{x} {document} {z} {}"
    assert summary == " {summary} { {y} {0}<|endoftext|>"


def test_generation_prompt_is_the_training_prompt(tokenizer: Any) -> None:
    using = encoder(tokenizer)
    for document in (SENTENCES[0], LONG):
        pair = encode(using, document)
        room = 128 - (len(pair) - pair.prompt_length)
        prompt = using.prompt(document, room)
        assert list(prompt.ids) == pair.ids[: pair.prompt_length].tolist()
        assert prompt.cut == pair.truncated


def test_no_room_for_the_prompt_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"encoding\.prompt takes \d+ tokens where 2 are left"):
        encoder(tokenizer).prompt("text", 2)
    with pytest.raises(UserError, match=r"where 0 are left of 128: .*generation\.max_new"):
        encoder(tokenizer).prompt("text", -30)


def test_max_length_above_the_context_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"encoding\.max_length=129: the model's context is 128"):
        encoder(tokenizer, max_length=129)
    assert encoder(tokenizer, max_length=100).max_length == 100


def test_tokenizer_without_eos_is_refused() -> None:
    from tests.support.hub_server import small_tokenizer

    without = small_tokenizer(SENTENCES)
    without.eos_token = None
    with pytest.raises(UserError, match="no EOS token"):
        encoder(without)


def corpus(documents: list[Document], fingerprint: str = "f") -> Corpus:
    return Corpus(documents, fingerprint)


def mixed() -> Corpus:
    return corpus(
        [
            Document("whole", SENTENCES[0], (SUMMARY,)),
            Document("cut", LONG, (SUMMARY,)),
            Document("dropped", SENTENCES[1], (LONG,)),
        ]
    )


def equal(left: EncodedCorpus, right: EncodedCorpus) -> bool:
    return len(left) == len(right) and all(
        (a.id, a.prompt_length, a.truncated) == (b.id, b.prompt_length, b.truncated)
        and np.array_equal(a.ids, b.ids)
        and a.ids.dtype == b.ids.dtype
        for a, b in zip(left, right, strict=True)
    )


def test_counts_of_cut_and_dropped(tokenizer: Any) -> None:
    found = encoder(tokenizer).corpus(mixed(), "data.train")
    assert [pair.id for pair in found] == ["whole", "cut"]
    assert counts(found.notices) == {"cut": 1, "summary_too_long": 1, "special_token_text": 0}
    assert [str(notice).split(";")[0] for notice in found.notices[:2]] == [
        "data.train: 1 of 3 documents are cut to fit the 128 tokens of the context with their"
        " summary: their ends are not read",
        "data.train: 1 of 3 pairs are left out: their summary is longer than"
        " encoding.max_summary_tokens=128, or leaves the document no room",
    ]
    assert all(notice.warning for notice in found.notices[:2])


def test_all_dropped_is_an_error_that_names_the_split(tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"data\.train: all 2 summaries .*max_summary_tokens=3"):
        encoder(tokenizer, max_summary_tokens=3).corpus(
            corpus([item("One."), item("Two.")]), "data.train"
        )


def test_cache_gives_back_what_was_encoded(tokenizer: Any, tmp_path: Path) -> None:
    using = encoder(tokenizer)
    first = using.corpus(mixed(), "data.train", tmp_path)
    (file,) = tmp_path.glob("encoded/*/pairs.npz")
    stamp = file.stat().st_mtime_ns
    using.example = None  # type: ignore[method-assign]  # encoding again would fail
    advanced: list[int] = []
    second = using.corpus(mixed(), "data.train", tmp_path, advanced.append)
    assert file.stat().st_mtime_ns == stamp
    assert equal(first, second)
    assert second.notices == first.notices
    # the same pairs for another split
    assert {notice.where for notice in using.corpus(mixed(), "data.test", tmp_path).notices} == {
        "data.test"
    }
    assert sum(advanced) == 3


def test_cache_is_missed_when_anything_that_matters_differs(tokenizer: Any, tmp_path: Path) -> None:
    import copy

    other_eos = copy.deepcopy(tokenizer)
    other_eos.eos_token = "a"
    variants = [
        (encoder(tokenizer), mixed()),
        (encoder(tokenizer, context=127), mixed()),
        (encoder(tokenizer, prompt="{document}\nIn short:"), mixed()),
        (encoder(tokenizer, max_summary_tokens=100), mixed()),
        (encoder(other_eos), mixed()),
        (encoder(tokenizer), dataclasses.replace(mixed(), fingerprint="g")),
    ]
    for number, (using, data) in enumerate(variants, 1):
        using.corpus(data, "data.train", tmp_path)
        assert len(list(tmp_path.glob("encoded/*/pairs.npz"))) == number


def test_tokenizer_that_cannot_be_written_out_is_not_cached(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    using = encoder(tokenizer)
    monkeypatch.setattr(Encoder, "fingerprint", None)
    assert len(using.corpus(mixed(), "data.train", tmp_path)) == 2
    assert not list(tmp_path.iterdir())


# ---- where each token stands


@pytest.mark.parametrize("context", [128, 60])
@pytest.mark.parametrize("which", ["tokenizer", "bos_tokenizer"])
def test_places_are_the_characters_of_each_token(
    which: str, context: int, request: pytest.FixtureRequest
) -> None:
    using = encoder(request.getfixturevalue(which), context)
    given = item(LONG)
    placed = using.located(given)
    pair = using.example(given)
    assert placed.ids.tolist() == pair.ids.tolist()
    assert placed.good.tolist() == pair.good.tolist()
    assert placed.offsets is not None
    assert (sum(placed.spans[part].astype(int) for part in PARTS) == 1).all()
    assert placed.spans["summary"].tolist() == [at >= pair.prompt_length for at in range(len(pair))]
    kept = ""
    for at, token in enumerate(pair.ids[: pair.prompt_length]):
        start, end = placed.offsets[at].tolist()
        assert placed.spans[PROMPT if start == -1 else DOCUMENT][at]
        if start != -1:
            assert LONG[start:end] == using.tokenizer.decode([int(token)])
            assert start == len(kept)
            kept += LONG[start:end]
    assert kept in [" ".join(SENTENCES[:count]) for count in range(1, 30)]


def test_what_gives_no_pair_has_no_places(tokenizer: Any) -> None:
    with pytest.raises(NoExample, match="summary too long"):
        encoder(tokenizer).located(item("A storm.", "word " * 200))


def test_a_tokenizer_that_tells_no_places_is_refused() -> None:
    from transformers import ByT5Tokenizer

    slow = ByT5Tokenizer(extra_ids=0)
    with pytest.raises(UserError, match=r"does not report which characters"):
        encoder(slow).located(item("A storm."))


# ---- special tokens

TEMPLATE = "<s>[{document}]</s> In short:"


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_those_of_the_template_alone(kind: str) -> None:
    tokenizer = small_tokenizer(kind)
    end = tokenizer.eos_token
    using = encoder(tokenizer, prompt=TEMPLATE.replace("</s>", end))
    pair = encode(using, f"Staff saw {end} in the log.", f"A log with {end}.")
    at = [place for place, token in enumerate(pair.ids) if token == tokenizer.eos_token_id]
    assert len(at) == 2
    assert at[0] < pair.prompt_length
    assert at[1] == len(pair) - 1


@pytest.mark.parametrize("kind", ["byte level", "llama", "llama, legacy"])
def test_a_start_or_an_end_that_the_templates_have_is_not_doubled(kind: str) -> None:
    tokenizer = small_tokenizer(kind)
    using = encoder(tokenizer, prompt="<s>{document}\n", summary=" {summary}</s>")
    pair = encode(using, "Staff saw <s> in the log.")
    assert pair.ids[0] == tokenizer.bos_token_id
    assert tokenizer.bos_token_id not in pair.ids[1:]
    assert pair.ids[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in pair.ids[:-1]


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("prompt", ["{document}\nTL;DR:", "{document}", "{document} In short "])
def test_prompt_and_summary_read_as_one_text(kind: str, prompt: str) -> None:
    """A target begins as the tokenizer would continue the prompt: by one space, not by two."""
    tokenizer = small_tokenizer(kind)
    for summary in (" {summary}", "{summary}"):
        using = encoder(tokenizer, prompt=prompt, summary=summary)
        pair = encode(using, "A storm closed the port.", "Ferry stood.")
        written = prompt.replace("{document}", "A storm closed the port.")
        written += summary.replace("{summary}", "Ferry stood.")
        assert using.decode(pair.ids.tolist()) == written


def test_places_are_right_behind_the_spelling_of_a_special_token() -> None:
    using = encoder(small_tokenizer("byte level"), prompt=TEMPLATE)
    document = "Staff saw </s> and <s> in the log of Porto."
    placed = using.located(item(document))
    assert placed.offsets is not None
    covered = []
    for token, place, inside in zip(
        placed.ids, placed.offsets.tolist(), placed.spans[DOCUMENT], strict=True
    ):
        assert inside == (place != [-1, -1])
        if inside:
            assert using.codec.token(int(token)) == document[slice(*place)]
            covered.append(place)
    assert covered[0][0] == 0
    assert covered[-1][1] == len(document)
    assert all(one[1] == other[0] for one, other in pairwise(covered))


def test_texts_are_data_and_templates_are_the_users() -> None:
    using = encoder(small_tokenizer("byte level"))
    end = using.end
    assert end not in using.text("log </s>")
    assert using.template("log </s>")[-1] == end
    assert using.template("<s>log").count(using.codec.begin[0]) == 1
    assert using.template_places("<s>a </s>") == [(0, 3), (3, 4), (4, 5), (5, 9)]
    assert using.template_places("a </s>") == [None, (0, 1), (1, 2), (2, 6)]


def test_documents_with_the_spelling_of_a_special_token_are_told(tmp_path: Path) -> None:
    using = encoder(small_tokenizer("byte level"))
    documents = [item("Staff saw </s>."), item("Staff."), item("A log.", "Staff saw <s>.")]
    named = [dataclasses.replace(one, id=str(i)) for i, one in enumerate(documents)]
    for _ in range(2):  # computed, and read from the cache
        found = using.corpus(Corpus(named, "one"), "data.train", tmp_path)
        assert counts(found.notices)["special_token_text"] == 2
        (notice,) = [one for one in found.notices if one.reason == "special_token_text"]
        assert str(notice).startswith("data.train: 2 of 3 documents or summaries contain the spel")
