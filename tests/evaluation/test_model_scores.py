"""BERTScore and entailment against one text or pair at a time; models that can't be used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from sumcirc.data.documents import Document
from sumcirc.data.sentences import split_sentences
from sumcirc.errors import UserError
from sumcirc.evaluation.bertscore import BertScore
from sumcirc.evaluation.entailment import Entailment, entailment_label, windows
from sumcirc.evaluation.model_scores import (
    check_model_scores,
    load_model_scores,
    with_model_scores,
)
from sumcirc.evaluation.scoring import evaluate_summaries
from sumcirc.models.scoring_models import load_scoring_model
from sumcirc.schema import EvaluationConfig
from sumcirc.tracking.metric_names import MetricKind, find
from tests.support import scoring_models as small

DOCUMENTS = [
    Document(
        "a",
        "The cat sat on the mat. Then it ran home. A dog with a red hat was on the mat.",
        ("The cat ran home.", "A cat sat, and then it ran home with the dog."),
    ),
    Document("b", "A storm closed the port of Lisbon. Nobody knows for how long.", ("A storm.",)),
    Document("c", "The ferry stood still.", ("The ferry of Lisbon stood still on Monday.",)),
]
SUMMARIES = [
    "The dog ran home. The cat sat on the mat, and then it was home with the red dog.",
    "Nobody knows.",
    "The port was closed, and the ferry stood.",
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.encoder_folder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.classifier_folder(tmp_path_factory.mktemp("classifier"))


def naive_bertscore(
    folder: Path, summary: str, reference: str, layer: int
) -> tuple[float, float, float]:
    """Precision, recall and F1 by loops over the words of two texts, each encoded by itself."""
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    words = []
    for text in (summary, reference):
        ids = small.tokenizer()(text)["input_ids"][: small.LIMIT]
        ids = ids if ids[-1] == 3 else [*ids[:-1], 3]
        with torch.no_grad():
            output = model(torch.tensor([ids]), output_hidden_states=True)
        words.append(list(output.hidden_states[layer][0, 1:-1].double()))
    ours, theirs = words
    cosine = torch.nn.CosineSimilarity(dim=0)
    table = [[float(cosine(one, other)) for other in theirs] for one in ours]
    precision = sum(max(row) for row in table) / len(ours)
    recall = sum(max(column) for column in zip(*table, strict=True)) / len(theirs)
    return precision, recall, 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("layer", [None, 1])
def test_bertscore_is_that_of_each_pair_alone(encoder: Path, layer: int | None) -> None:
    scorer = BertScore(load_scoring_model(str(encoder), "evaluation.bertscore", False), layer)
    found = scorer.score(DOCUMENTS, SUMMARIES)
    for item, summary, scores in zip(DOCUMENTS, SUMMARIES, found, strict=True):
        each = [
            naive_bertscore(encoder, summary, reference, -1 if layer is None else layer)
            for reference in item.references
        ]
        best = max(each, key=lambda one: one[2])
        assert [scores[name] for name in scorer.measures] == pytest.approx(best, abs=1e-5)
    assert not scorer.cut
    assert len({round(scores["bertscore_f1"] or 0, 3) for scores in found}) == 3
    assert scorer.record["layer"] == (3 if layer is None else layer)


def test_bertscore_of_extremes(encoder: Path) -> None:
    scorer = BertScore(load_scoring_model(str(encoder), "evaluation.bertscore", False))
    same, empty, long = scorer.score(
        [DOCUMENTS[1]] * 3, [DOCUMENTS[1].references[0], "", "cat " * (2 * small.LIMIT)]
    )
    assert same["bertscore_f1"] == pytest.approx(1.0, abs=1e-6)
    assert set(empty.values()) == {0.0}
    cut = naive_bertscore(encoder, "cat " * (2 * small.LIMIT), "A storm.", -1)
    assert list(long.values()) == pytest.approx(cut, abs=1e-5)
    assert scorer.cut == {2}


def naive_entailment(folder: Path, item: Document, summary: str, size: int) -> list[float]:
    """The highest probability of entailment of each sentence, a pair at a time, without padding."""
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    sentences = split_sentences(item.document)
    starts = {
        max(0, min(start, len(sentences) - size))
        for start in range(0, len(sentences), -(-size // 2))
    }
    found = []
    for claim in split_sentences(summary):
        highest = 0.0
        for start in starts:
            premise = " ".join(sentences[start : start + size])
            first, second = (
                small.tokenizer()(text, add_special_tokens=False)["input_ids"]
                for text in (premise, claim)
            )
            second = second[: small.LIMIT // 2]
            first = first[: small.LIMIT - 3 - len(second)]
            ids = [2, *first, 3, *second, 3]
            kinds = [0] * (2 + len(first)) + [1] * (1 + len(second))
            with torch.no_grad():
                logits = model(torch.tensor([ids]), token_type_ids=torch.tensor([kinds])).logits
            highest = max(highest, float(logits.softmax(-1)[0, 1]))
        found.append(highest)
    return found


@pytest.mark.parametrize("size", [1, 2, 3])
def test_entailment_is_that_of_each_pair_alone(classifier: Path, size: int) -> None:
    scorer = Entailment(load_scoring_model(str(classifier), "evaluation.nli", True), size)
    assert scorer.index == 1
    found = scorer.score(DOCUMENTS, SUMMARIES)
    values = []
    for item, summary, scores in zip(DOCUMENTS, SUMMARIES, found, strict=True):
        each = naive_entailment(classifier, item, summary, size)
        values += each
        assert scores["nli_entailment"] == pytest.approx(sum(each) / len(each), abs=1e-6)
        assert scores["nli_entailed"] == sum(one > 0.5 for one in each) / len(each)
    assert max(values) - min(values) > 0.1, "the test can't tell labels from each other"


def test_entailment_without_sentences_and_with_long_ones(classifier: Path) -> None:
    scorer = Entailment(load_scoring_model(str(classifier), "evaluation.nli", True))
    claim = "the dog ran home with a red hat " * 4
    items = [DOCUMENTS[0], Document("d", "cat " * 40, ("x",)), DOCUMENTS[1]]
    none, premise, sentence = scorer.score(items, ["", "A cat sat.", claim])
    assert set(none.values()) == {None}
    expected = naive_entailment(classifier, items[1], "A cat sat.", 1)[0]
    assert premise["nli_entailment"] == pytest.approx(expected, abs=1e-6)
    expected = naive_entailment(classifier, items[2], claim, 1)[0]
    assert sentence["nli_entailment"] == pytest.approx(expected, abs=1e-6)
    assert scorer.cut == {1, 2}


def test_windows_cover_a_document() -> None:
    assert windows([], 3) == []
    assert windows(["a", "b"], 3) == ["a b"]
    assert windows(["a", "b", "c"], 1) == ["a", "b", "c"]
    assert windows(["a", "b", "c", "d", "e", "f"], 3) == ["a b c", "c d e", "d e f"]
    assert windows(["a", "b", "c", "d", "e"], 4) == ["a b c d", "b c d e"]


def test_scores_are_added_beside_the_others(encoder: Path, classifier: Path) -> None:
    config = EvaluationConfig(
        bootstrap=100, bertscore=str(encoder), nli=str(classifier), nli_sentences=2
    )
    check_model_scores(config)
    plain = evaluate_summaries(DOCUMENTS, [*SUMMARIES[:2], ""], config, "mine")
    scores = load_model_scores(config)
    found, notices = with_model_scores(plain, DOCUMENTS, scores, "cpu")
    summary = found.summary()
    assert summary["bertscore_f1"].n == 3
    assert summary["nli_entailment"].n == summary["nli_entailed"].n == 2
    assert summary["rouge1_f1"] == plain.summary()["rouge1_f1"]
    assert all(set(found.measures) <= set(record) for record in found.records)
    assert [notice.count for notice in notices] == [0, 1], "a sentence is longer than a half"
    record = scores["nli"].record
    assert record["model"] == str(classifier)
    assert (record["label"], record["sentences"], record["limit"]) == (1, 2, small.LIMIT)
    assert record["revision"] is None
    assert record["fingerprint"] != scores["bertscore"].record["fingerprint"]
    for name in ("bertscore_f1", "bertscore_f1_x100", "nli_entailment_x100"):
        assert find(f"test/trained/{name}", MetricKind.summary)


def test_roberta_reads_as_many_tokens_as_it_has_positions(tmp_path: Path) -> None:
    settings: Any = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.RobertaConfig(
        **settings, vocab_size=99, num_hidden_layers=1, max_position_embeddings=18, pad_token_id=1
    )
    transformers.RobertaModel(config).save_pretrained(tmp_path)
    small.tokenizer(limit=None).save_pretrained(tmp_path)
    scoring = load_scoring_model(str(tmp_path), "evaluation.bertscore", False)
    assert scoring.limit == 16
    (found,) = BertScore(scoring).score([DOCUMENTS[0]], ["cat " * 30])
    assert found["bertscore_f1"] is not None


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _described(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def _headless(folder: Path) -> None:
    transformers.BertModel(small.config()).save_pretrained(folder)
    _described(architectures=["BertForSequenceClassification"])(folder)


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def _torn(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def _padless(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    found = {name: v for name, v in json.loads(file.read_text()).items() if name != "pad_token"}
    file.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (shutil.rmtree, "no such folder"),
        (_empty, "holds no config.json"),
        (_without("model.safetensors"), "no weights in it"),
        (_without("tokenizer.json"), "tokenizer"),
        (_pickled, "its weights are a pickle"),
        (_torn, "model.safetensors is damaged"),
        (_padless, "no padding token"),
        (_described(architectures=["BertForMaskedLM"]), "BertForMaskedLM is no sequence classifi"),
        (_described(model_type="nothing"), "config.json cannot be used"),
        (_described(id2label={"0": "A", "1": "B", "2": "C"}), "its labels are A, B, C; one of"),
        (_described(num_labels=2), "cannot be loaded"),
        (_headless, "lack weights of BertForSequenceClassification (classifier."),
    ],
)
def test_models_that_cannot_score(
    damage: Callable[[Path], None], said: str, classifier: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(classifier, tmp_path / "copy"))
    damage(folder)
    with pytest.raises(UserError) as refused:
        check_model_scores(EvaluationConfig(nli=str(folder)))
    message = str(refused.value)
    assert message.startswith(f"evaluation.nli={folder}: ")
    assert said in message
    assert "\n" not in message


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    config = small.config()
    config.type_vocab_size = 1
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    small.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"can't read 24 tokens of its tokenizer .* belong"):
        load_scoring_model(str(tmp_path), "evaluation.nli", True)


def test_an_encoder_whose_tokenizer_marks_no_ends(encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(encoder, tmp_path / "copy"))
    file = folder / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "post_processor": None}))
    with pytest.raises(UserError, match=r"^evaluation\.bertscore=.*one special token before and"):
        check_model_scores(EvaluationConfig(bertscore=str(folder)))


def test_hub_ids_and_encoder_decoders(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"^evaluation\.bertscore=some/encoder: not in the local"):
        check_model_scores(EvaluationConfig(bertscore="some/encoder"))
    with pytest.raises(UserError, match=r"^evaluation\.bertscore_layer=4: .* has 3 layers"):
        check_model_scores(EvaluationConfig(bertscore=str(encoder), bertscore_layer=4))
    sizes: Any = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    transformers.T5Config(vocab_size=20, **sizes, architectures=["T5Model"]).save_pretrained(
        tmp_path
    )
    with pytest.raises(UserError, match="T5Model is an encoder-decoder"):
        check_model_scores(EvaluationConfig(bertscore=str(tmp_path)))


def test_settings_that_would_do_nothing() -> None:
    with pytest.raises(UserError, match=r"evaluation\.nli_sentences=3: has no effect"):
        EvaluationConfig(nli_sentences=3)
    with pytest.raises(UserError, match=r"evaluation\.bertscore_layer=3: has no effect"):
        EvaluationConfig(bertscore_layer=3)


def test_one_label_is_entailment() -> None:
    assert entailment_label({0: "not_entailment", 1: "entailment"}, "x") == 1
    for labels in ({0: "entailment"}, {0: "entailed", 1: "entailment"}, {0: "no", 1: "yes"}):
        with pytest.raises(UserError, match="must be called entailment"):
            entailment_label(labels, "x")
