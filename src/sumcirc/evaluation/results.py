"""The scoreboard of a run: every system scored on the same test documents."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.data.documents import Corpus, read_corpus
from sumcirc.data.inspection import seen_before
from sumcirc.evaluation.baselines import tokenizer_of
from sumcirc.evaluation.model_scores import load_model_scores, with_model_scores
from sumcirc.evaluation.scoring import (
    Evaluation,
    evaluate_baselines,
    evaluate_summaries,
    unscorable,
    whole_documents,
)
from sumcirc.runtime.notices import Notice, Notices, few
from sumcirc.runtime.progress import counted
from sumcirc.schema import JobConfig, Source
from sumcirc.tracking.score_names import BASE, TRAINED

if TYPE_CHECKING:
    import torch

    from sumcirc.data.encoding import Encoder

log = logging.getLogger(__name__)

FACTS = ("facts", "fact_who", "fact_where", "fact_when", "fact_how_many", "facts_wrong")


class Scoreboard:
    """The scores of all systems (baselines, base model, trained model) on a run's test documents.

    Args:
        config: configuration of the run.
        encoder: encodes prompts for the models.
        cache: the folder `cache_dir`, in which summaries of base models are cached.
        notices: collection to which notices about the test documents and summaries are added; None
            for a new collection.
        device: where models that score summaries compute.

    Attributes:
        systems: scores of the systems added so far, by name of the system.
        corpus: the test documents.
        model_scores: scores by other models, see `load_model_scores`.

    Raises:
        UserError: the test documents can't be read, see `read_corpus`; or a model that scores
            summaries can't be loaded.
    """

    def __init__(
        self,
        config: JobConfig,
        encoder: Encoder,
        cache: Path,
        notices: Notices | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.encoder = encoder
        self.cache = cache
        self.notices = Notices() if notices is None else notices
        self.corpus = read_corpus(config.data, "test")
        self.notices.tell(*self.corpus.notices)
        self.tokenizer = tokenizer_of(self.corpus.documents, config.evaluation)
        self.systems: dict[str, Evaluation] = {}
        self.model_scores = load_model_scores(config.evaluation)
        self.device = device

    def inspect(self, corpora: Mapping[str, Corpus]) -> None:
        """Add notices about test documents that may distort the scores.

        There are notices for documents that also occur in another split, are truncated, contain the
        text of special tokens, are too short for the baselines, or can't be scored, and a notice if
        there are only a few documents.

        Args:
            corpora: the other splits by name.
        """
        from sumcirc.evaluation.summaries import prompts_of

        documents, generation = self.corpus.documents, self.config.generation
        for split, corpus in corpora.items():
            self.notices.tell(seen_before("data.test", documents, corpus, f"data.{split}"))
        cut = sum(prompt.cut for prompt in prompts_of(self.encoder, documents, generation))
        words = (
            "documents are cut to what generation.max_new_tokens="
            f"{generation.max_new_tokens} leaves of the context of {self.encoder.max_length}"
            " tokens; lead, random and oracle read all of them"
        )
        self.notices.tell(
            Notice("data.test", "cut", cut, len(documents), words),
            self.encoder.special_notice("data.test", documents),
            whole_documents(documents, self.config.evaluation),
            unscorable(documents, self.tokenizer),
            few("data.test", "documents", len(documents)),
        )

    def add_baselines(self) -> None:
        """Score the lead, random and oracle baselines."""
        documents, config = self.corpus.documents, self.config.evaluation
        for name, evaluation in evaluate_baselines(
            documents, config, self.config.data.seed
        ).items():
            self.systems[name] = self._completed(evaluation)

    def add(self, name: str, model: Any, once: bool = False) -> None:
        """Have a model summarize the test documents, and score the summaries.

        Args:
            name: name of the system.
            model: a transformers decoder or a PEFT model around one.
            once: whether to take the summaries from the cache if it contains them, and to add them
                to it otherwise.
        """
        from sumcirc.evaluation.summaries import summarize, summarize_once

        documents, generation = self.corpus.documents, self.config.generation
        with counted(f"summarize with {name}", len(documents)) as advance:
            if once:
                predictions = summarize_once(
                    model, self.encoder, documents, generation, self.cache, advance
                )
            else:
                predictions = summarize(model, self.encoder, documents, generation, advance)
        empty = sum(not prediction for prediction in predictions)
        self.notices.tell(
            Notice(f"summaries of {name}", "empty", empty, len(documents), "are empty")
        )
        evaluation = evaluate_summaries(documents, predictions, self.config.evaluation, name)
        self.systems[name] = self._completed(evaluation)

    def _completed(self, evaluation: Evaluation) -> Evaluation:
        """Add scores that not every run has: facts, and scores by other models."""
        evaluation, notices = with_model_scores(
            self._with_facts(evaluation), self.corpus.documents, self.model_scores, self.device
        )
        self.notices.tell(*notices)
        return evaluation

    def _with_facts(self, evaluation: Evaluation) -> Evaluation:
        """Add the shares of right and of wrong facts in each summary, where they are known."""
        if self.config.data.source is not Source.wire:
            return evaluation
        from sumcirc.wire import article_of, facts_found, wrong_facts_found

        for record in evaluation.records:
            article = article_of(record["id"], self.config.data.seed)
            found = facts_found(article, record["prediction"])
            wrong = wrong_facts_found(article, record["prediction"])
            record |= {f"fact_{role}": float(is_there) for role, is_there in found.items()}
            record["facts"] = sum(found.values()) / len(found)
            record["facts_wrong"] = sum(wrong.values()) / len(wrong) if wrong else None
        return replace(evaluation, measures=(*evaluation.measures, *FACTS))

    def samples(self, count: int) -> list[dict[str, str]]:
        """Return the first test documents with their reference summaries and the models' summaries.

        Each is a mapping with `id`, `document`, `reference`, and the summaries of the base and of
        the trained model, by the model's name, if these have been added.

        Args:
            count: number of documents.
        """
        models = [name for name in self.systems if name in (BASE, TRAINED)]
        return [
            {
                "id": item.id,
                "document": item.document,
                "reference": item.references[0],
                **{name: self.systems[name].records[i]["prediction"] for name in models},
            }
            for i, item in enumerate(self.corpus.documents[:count])
        ]
