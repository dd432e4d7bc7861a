"""Training documents with the summary of another: which ones, and that nothing else changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.documents import Document, check_files, corpus_of, read_corpus
from sumcirc.data.encoding import Encoder
from sumcirc.data.permuting import with_other_summaries
from sumcirc.errors import UserError
from sumcirc.runtime.notices import counts
from sumcirc.schema import DataConfig, EncodingConfig, SizesConfig, Source, TrainerConfig
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.wire import article_of


def files_config(files: dict[str, Path], seed: int | None, **sizes: int) -> DataConfig:
    splits: dict[str, Any] = {split: str(path) for split, path in files.items()}
    return DataConfig(
        "news",
        Source.files,
        **splits,
        sizes=SizesConfig(**sizes),
        permute_summaries=seed,
    )


def wire_config(seed: int | None, train: int = 600) -> DataConfig:
    sizes = SizesConfig(train=train, validation=20, test=20)
    return DataConfig(
        "wire",
        Source.wire,
        train="train",
        validation="validation",
        test="test",
        sizes=sizes,
        permute_summaries=seed,
    )


@pytest.mark.parametrize("count", [2, 3, 40])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_no_document_keeps_its_own_and_each_summary_is_used_once(count: int, seed: int) -> None:
    own = [Document(f"d{i}", f"Text {i}.", (f"S{i}.", f"Also {i}.")) for i in range(count)]
    found, notices = with_other_summaries(own, seed)
    assert [(one.id, one.document) for one in found] == [(one.id, one.document) for one in own]
    givers = [int(one.references[0][1:-1]) for one in found]
    assert sorted(givers) == list(range(count))
    assert all(giver != i for i, giver in enumerate(givers))
    assert [one.references for one in found] == [own[giver].references for giver in givers]
    assert counts(notices) == {"permuted": count, "permuted_alike": 0}
    # the order in words: sort by hash, take the next one's
    hashes = [hashlib.sha256(f"{seed}/permute/{i}".encode()).hexdigest() for i in range(count)]
    for i, giver in enumerate(givers):
        later = [one for one in hashes if one > hashes[i]]
        assert hashes[giver] == min(later or hashes)


def test_the_seed_draws_and_every_permutation_can_come() -> None:
    own = [Document(f"d{i}", f"Text {i}.", (f"S{i}.",)) for i in range(4)]
    drawn = [tuple(one.references for one in with_other_summaries(own, i)[0]) for i in range(200)]
    # 3! cycles of four, each expected 33 times
    times = [drawn.count(one) for one in set(drawn)]
    assert len(times) == 6
    assert min(times) > 15


def test_summaries_that_land_where_they_were_are_counted() -> None:
    texts = [("A text.", "S."), ("Another.", "s. "), ("A  TEXT.", "T."), ("Last.", "U.")]
    own = [Document(f"d{i}", text, (summary,)) for i, (text, summary) in enumerate(texts)]
    alike = {frozenset((0, 1)), frozenset((0, 2))}  # a summary in common, a text in common
    seen = set()
    for seed in range(20):
        found, notices = with_other_summaries(own, seed)
        givers = [[two.references for two in own].index(one.references) for one in found]
        expected = sum(frozenset(pair) in alike for pair in enumerate(givers))
        assert counts(notices)["permuted_alike"] == expected
        seen.add(expected)
    assert len(seen) > 1


def test_files_other_splits_and_seeds(news_files: dict[str, Path]) -> None:
    plain, given = files_config(news_files, None, train=30), files_config(news_files, 1, train=30)
    check_files(given)
    before, after = read_corpus(plain, "train"), read_corpus(given, "train")
    assert [one.document for one in after.documents] == [one.document for one in before.documents]
    pairs = zip(before.documents, after.documents, strict=True)
    assert all(own.references != other.references for own, other in pairs)
    assert {one.references for one in after.documents} == {
        one.references for one in before.documents
    }
    assert after.not_drawn == before.not_drawn == 10
    for split in ("validation", "test"):
        assert read_corpus(given, split) == read_corpus(plain, split)
    assert read_corpus(given, "train") == after
    others = [read_corpus(files_config(news_files, seed, train=30), "train") for seed in (0, 2)]
    assert len({before.fingerprint, after.fingerprint, *(one.fingerprint for one in others)}) == 4


@pytest.mark.parametrize("cached", [False, True])
def test_articles_of_the_wire_keep_their_text_and_id(tmp_path: Path, cached: bool) -> None:
    """So whatever is looked up by id is of the text, with and without the cache of articles."""
    cache = tmp_path if cached else None
    for _ in range(2):
        train = read_corpus(wire_config(3), "train", cache)
        for one in train.documents[::60]:
            article = article_of(one.id, 0)
            assert one.document == article.document
            assert one.references != (article.summary,)
        assert read_corpus(wire_config(3), "test", cache) == read_corpus(wire_config(None), "test")
    plain = read_corpus(wire_config(None), "train", cache)
    assert {one.references for one in plain.documents} == {
        one.references for one in train.documents
    }
    assert plain.documents[0].references == (article_of(plain.documents[0].id, 0).summary,)


def module(
    tokenizer: Any, config: DataConfig, cache: Path | None, seed: int = 1
) -> SummarizationData:
    encoder = Encoder(tokenizer, EncodingConfig(), 256)
    made = SummarizationData(config, TrainerConfig(), encoder, cache, seed)
    made.read()
    return made


def test_what_a_model_is_trained_on(
    tokenizer: Any, news_files: dict[str, Path], tmp_path: Path
) -> None:
    """Permuted and plain pairs share a cache, and each is read back from it as it was made."""
    for _ in range(2):
        plain = module(tokenizer, files_config(news_files, None), tmp_path)
        permuted = module(tokenizer, files_config(news_files, 1), tmp_path)
        other_seed = module(tokenizer, files_config(news_files, 1), tmp_path, seed=2)
        for made in (plain, permuted):
            for i, item in enumerate(made.corpora["train"].documents):
                expected = made.encoder.example(item).ids
                assert np.array_equal(made.encoded["train"][i].ids, expected)
        assert not np.array_equal(plain.encoded["train"].ids, permuted.encoded["train"].ids)
        assert np.array_equal(permuted.encoded["train"].ids, other_seed.encoded["train"].ids)
        assert np.array_equal(plain.encoded["validation"].ids, permuted.encoded["validation"].ids)
    told = [str(notice) for notice in permuted.notices]
    assert (
        "data.permute_summaries=1: 40 of 40 training documents have the summary of another"
        " document, as a control" in told
    )
    assert permuted.counts["data/train/permuted"] == 40
    assert not [one for one in plain.notices if "permute" in one.where]
    assert not [one for one in permuted.notices if one.reason == "permuted" and one.warning]


def test_a_resumed_run_with_another_permutation_is_refused(
    tmp_path: Path, news_files: dict[str, Path]
) -> None:
    run = RunDirectory.create(tmp_path / "run", "train", {})
    found = [read_corpus(files_config(news_files, seed), "train").fingerprint for seed in (1, 2)]
    run.require_same_data({"train": found[0]})
    run.require_same_data({"train": found[0]})
    with pytest.raises(UserError, match=r"data\.train has other documents"):
        run.require_same_data({"train": found[1]})


ONE = r"^data\.permute_summaries=0: the training split has 1 item, .*; give at least 2"


def test_one_document_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    row = json.dumps({"document": "A.", "summary": "B."}) + "\n"
    file.write_text(row)
    files: dict[str, Path] = dict.fromkeys(("train", "validation", "test"), file)
    for given in (files_config(files, 0), wire_config(0, train=1)):
        check_files(given, ("validation", "test"))
        with pytest.raises(UserError, match=ONE):
            check_files(given)
        with pytest.raises(UserError, match=ONE):
            read_corpus(given, "train")
        assert read_corpus(given, "validation").documents
    # two rows, of which one is empty, are found when they are read
    file.write_text(row + json.dumps({"document": "", "summary": "B."}) + "\n")
    check_files(files_config(files, 0))
    with pytest.raises(UserError, match=ONE):
        read_corpus(files_config(files, 0), "train")
    file.write_text(row * 2)
    with pytest.raises(UserError, match=ONE):
        check_files(files_config(files, 0, train=1))
    twice = read_corpus(files_config(files, 0), "train")
    assert counts(twice.notices)["permuted_alike"] == 2


def test_a_fingerprint_is_of_the_pairs(news_files: dict[str, Path]) -> None:
    given = read_corpus(files_config(news_files, 5), "train")
    assert given.fingerprint == corpus_of(given.documents).fingerprint
