"""Where the tuned model's residual stream departs from the base's, by linear CKA.

S(l) = CKA before layer l - CKA after it, between the two models' streams at the rows that predict
the summary (debiased; documents have their jackknife pseudo-values, see `probes.representation`).
The fall across a layer is taken, not the distance after it, which no later layer could lower: all
that changed before would count for it. Negative where a layer brings the streams together again.
"""

from __future__ import annotations

import numpy as np

from sumcirc.selection.evidence import Evidence
from sumcirc.selection.scores import Scores, require_defined


def score(evidence: Evidence) -> Scores:
    """Score layers by how far CKA falls across them."""
    cka = evidence.tuned_record("drift").values["residual/cka"].astype(np.float64)
    values = require_defined((cka[:-1] - cka[1:])[:, None], "drift")
    return Scores(
        values,
        "the tuned stream departs from the base's here",
        "fall of CKA",
        "documents",
        scale=1.0,
    )
