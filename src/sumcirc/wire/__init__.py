"""The built-in wire: generated short news articles whose key facts, and their positions, are known.

`article`, `article_of` and `articles` make articles, `twin` makes a counterfactual (the same
article with other facts) of equal token length, `facts_found` tells which facts a summary states
and `wrong_facts_found` which of the event that it leaves out, `plain_text` is the training text of
a base model.
"""

from __future__ import annotations

from sumcirc.wire.article import (
    EVENTS,
    FACTS,
    MAIN,
    SECOND,
    SPLITS,
    Span,
    WireArticle,
    facts_found,
    plain_text,
    wrong_facts_found,
)
from sumcirc.wire.generator import article, article_of, articles
from sumcirc.wire.kinds import KINDS
from sumcirc.wire.twin import twin

__all__ = [
    "EVENTS",
    "FACTS",
    "KINDS",
    "MAIN",
    "SECOND",
    "SPLITS",
    "Span",
    "WireArticle",
    "article",
    "article_of",
    "articles",
    "facts_found",
    "plain_text",
    "twin",
    "wrong_facts_found",
]
