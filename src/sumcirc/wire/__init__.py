"""The built-in wire: made-up short news articles whose facts, and where they stand, are known.

`article`, `article_of` and `articles` make them, `twin` makes a counterfactual of equal token
length, `facts_found` says which facts a summary got right, `plain_text` is what a base model is
trained on.
"""

from __future__ import annotations

from sumcirc.wire.article import (
    FACTS,
    SPLITS,
    Span,
    WireArticle,
    facts_found,
    plain_text,
)
from sumcirc.wire.generator import article, article_of, articles
from sumcirc.wire.kinds import KINDS
from sumcirc.wire.twin import twin

__all__ = [
    "FACTS",
    "KINDS",
    "SPLITS",
    "Span",
    "WireArticle",
    "article",
    "article_of",
    "articles",
    "facts_found",
    "plain_text",
    "twin",
]
