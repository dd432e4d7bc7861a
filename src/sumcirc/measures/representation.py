"""Comparison of a fine-tuned model's hidden states with its base's, row by row and as a geometry.

Linear CKA compares the Gram matrices K = X X' and L = Y Y' of n rows, invariant to rotations and a
common scale between X and Y:

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))
    HSIC(K, L) = [tr(K~L~) + 1'K~1 1'L~1 / ((n-1)(n-2)) - 2/(n-2) 1'K~L~1] / (n(n-3))

where K~ is K with a zero diagonal (L. Song et al., Feature Selection via Dependence Maximization,
2012; T. Nguyen et al., Do Wide and Deep Networks Learn the Same Things?, 2021). Unlike the usual
estimate this one is unbiased: for unrelated X and Y it is near 0 even when rows are fewer than
dimensions, where the usual estimate is near 1.

RSA compares how documents differ from one another: the Spearman correlation of the two models'
dissimilarities, 1 - r between the vectors of two documents (N. Kriegeskorte et al., 2008).

Both are computed over all documents together. Each document gets its jackknife pseudo-value D theta
- (D - 1) theta_(-a), where theta_(-a) is the measure without document a (B. Efron and R.
Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11), so that their mean has an interval
like any other mean over documents.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST_ROWS = 4  # HSIC divides by n(n-3)
_LEAST_DOCUMENTS = 4  # fewer have at most three dissimilarities
_ROUNDING = 1e-13  # an HSIC below this fraction of its terms is rounding error in float64


def document_means(values: Tensor, groups: Tensor, documents: int) -> Tensor:
    """Return the mean of each document's rows; NaN for a document without rows.

    Args:
        values: [n, ...] values of n rows.
        groups: [n] index of the document that each row belongs to.
        documents: number of documents.

    Returns:
        [documents, ...] in float64 if `values` are float64, otherwise in fp32.
    """
    dtype = torch.promote_types(values.dtype, torch.float32)
    # Separately, not by scatter: on a GPU that adds in no fixed order, and NaN must not spread.
    means = [values[groups == document].mean(0, dtype=dtype) for document in range(documents)]
    return torch.stack(means) if means else values.new_zeros((0, *values.shape[1:]), dtype=dtype)


def magnitude(hidden: Tensor) -> Tensor:
    """Return ActMag, the mean absolute value of each vector, in fp32.

    Args:
        hidden: [..., d] vectors.

    Returns:
        [...].
    """
    return hidden.abs().mean(-1, dtype=torch.float32)


def relative_change(tuned: Tensor, base: Tensor) -> Tensor:
    """Return |tuned - base| / |base| of each vector, with Euclidean norms.

    Args:
        tuned, base: [..., d] vectors of the two models.

    Returns:
        [...] in fp32; NaN where the base's vector is zero.
    """
    size = torch.linalg.vector_norm(base.float(), dim=-1)
    change = torch.linalg.vector_norm(tuned.float() - base.float(), dim=-1)
    return torch.where(size > 0, change / size, torch.nan)


def centered_cosine(tuned: Tensor, base: Tensor) -> Tensor:
    """Return each row's cosine with the base's row, after subtracting the base's mean row.

    Without centring, a few outlier dimensions bring the cosine of any two rows near 1 (W. Timkey
    and M. van Schijndel, All Bark and No Bite, 2021). The base's mean is subtracted from the rows
    of both models, so that a shift common to all rows counts as a change.

    Args:
        tuned, base: [n, d] rows of the two models.

    Returns:
        [n] in fp32; NaN where a row of either model equals the mean.
    """
    own, other = tuned.double(), base.double()
    mean = other.mean(0)
    own, other = own - mean, other - mean
    sizes = torch.linalg.vector_norm(own, dim=-1) * torch.linalg.vector_norm(other, dim=-1)
    return torch.where(sizes > 0, (own * other).sum(-1) / sizes, torch.nan).clamp(-1, 1).float()


def debiased_cka(first: Tensor, second: Tensor, groups: Tensor) -> tuple[float, Tensor]:
    """Return linear CKA by the unbiased HSIC, and each document's jackknife pseudo-value.

    No n x n matrix is stored, and leaving out a document needs no second pass over the rows.

    Args:
        first: [n, d] rows of one model.
        second: [n, e] the same rows of the other model.
        groups: [n] index of the document that each row belongs to, 0 to D - 1 in any order.

    Returns:
        The CKA over all rows, and pseudo-values [D] in float64. A value is NaN if it is computed
        from fewer than 4 rows, or if the HSIC of a model with itself is not positive (nearly all of
        its rows are equal). For a single document, the pseudo-value is the CKA itself.

    Raises:
        ValueError: the numbers of rows differ, or a document has no rows.
    """
    if not len(first) == len(second) == len(groups):
        raise ValueError(f"rows: {len(first)} and {len(second)}, in {len(groups)} groups")
    if len(groups) == 0:
        return torch.nan, torch.zeros(0, dtype=torch.float64)
    sizes = groups.bincount()
    if (sizes == 0).any():
        raise ValueError(f"a document has no rows: {sizes.tolist()}")
    order = groups.argsort(stable=True)
    groups, sides = groups[order], (_moved(first[order]), _moved(second[order]))
    pairs = ((0, 1), (0, 0), (1, 1))

    # index 0 of the last axis from here on: no document left out; index 1 + a: without document a
    trace, size = _traces(sides, pairs, sizes), torch.nn.functional.pad(sizes, (1, 0))
    left = len(groups) - size.double()
    kept = groups[:, None] != torch.arange(-1, len(sizes), device=groups.device)
    rows = [_row_sums(side, groups, len(sizes)) * kept for side in sides]
    totals = [side.sum(0) for side in rows]
    found = []
    for number, (i, j) in enumerate(pairs):
        terms = torch.stack(
            [
                trace[number],
                totals[i] * totals[j] / ((left - 1) * (left - 2)),
                -2 / (left - 2) * (rows[i] * rows[j]).sum(0),
            ]
        )
        hsic = terms.sum(0) / (left * (left - 3))
        positive = terms.sum(0) > _ROUNDING * terms[:, 0].abs().sum()
        found.append(torch.where(positive, hsic, torch.nan) if i == j else hsic)
    values = found[0] / (found[1].sqrt() * found[2].sqrt())
    return _with_pseudo_values(torch.where(left >= _LEAST_ROWS, values, torch.nan))


def rsa(first: Tensor, second: Tensor) -> tuple[float, Tensor]:
    """Return RSA, and each document's jackknife pseudo-value.

    RSA is the Spearman correlation of two models' dissimilarities between documents.

    Args:
        first: [D, d] one vector per document from one model.
        second: [D, e] one vector per document from the other model.

    Returns:
        RSA over all documents, and pseudo-values [D] in float64. The former needs 4 documents and
        the latter need 5; with fewer they are NaN. They are also NaN if a vector is constant, or if
        all dissimilarities of a model are equal.

    Raises:
        ValueError: the numbers of documents differ.
    """
    if len(first) != len(second):
        raise ValueError(f"documents: {len(first)} and {len(second)}")
    count = len(first)
    above = torch.triu_indices(count, count, 1, device=first.device)
    pair = [_dissimilarities(side)[above[0], above[1]] for side in (first, second)]
    ranks = [_centered_ranks(side, side) for side in pair]
    values = [_correlation(*ranks)]
    for document in range(count):
        gone = (above == document).any(0)
        # ranks count the values below and above, so the counts of removed values are subtracted
        values.append(
            _correlation(
                *(
                    (rank - _centered_ranks(side, side[gone]))[~gone]
                    for rank, side in zip(ranks, pair, strict=True)
                )
            )
        )
    left = torch.tensor([count, *[count - 1] * count], device=first.device)
    return _with_pseudo_values(
        torch.where(left >= _LEAST_DOCUMENTS, torch.stack(values), torch.nan)
    )


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's rank correlation over the last axis; tied values get their average rank.

    Args:
        first, second: [..., n] values, whose shapes broadcast.

    Returns:
        [...] in the arguments' dtype, or in fp32 if that has a lower precision. NaN where the n
        values of an argument are all equal or contain NaN.
    """
    return _correlation(*(_centered_ranks(side, side) for side in (first, second)))


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return Pearson's correlation of values with mean 0; NaN where a side is 0."""
    # Sums rather than matrix products, which may be rounded to TF32 on a GPU.
    sizes = [side.square().sum(-1).sqrt() for side in (first, second)]
    return ((first * second).sum(-1) / (sizes[0] * sizes[1])).clamp(-1, 1)


def _centered_ranks(values: Tensor, among: Tensor) -> Tensor:
    """Return half of (number of values of `among` below each value - number above it).

    For `values` equal to `among` these are the average ranks minus their mean; exactly 0 for a
    constant.
    """
    values = values.to(torch.promote_types(values.dtype, torch.float32)).contiguous()
    ordered = among.to(values.dtype).sort(-1).values.contiguous()
    below = torch.searchsorted(ordered, values)
    not_above = torch.searchsorted(ordered, values, right=True)
    ranks = (below + not_above - among.shape[-1]).to(values.dtype) / 2
    return torch.where(values.isnan().any(-1, keepdim=True), torch.nan, ranks)


def _dissimilarities(vectors: Tensor) -> Tensor:
    """Return 1 - Pearson's correlation of every two vectors, [D, d] to [D, D], in float64."""
    centered = vectors.double()
    centered = centered - centered[:, :1]  # so that a constant vector becomes exactly 0
    centered = centered - centered.mean(-1, keepdim=True)
    unit = centered / torch.linalg.vector_norm(centered, dim=-1, keepdim=True)
    return 1 - unit @ unit.T


def _with_pseudo_values(values: Tensor) -> tuple[float, Tensor]:
    """Return value and pseudo-values from [1 + D] values: over all, then without each document."""
    value, documents = values[0], len(values) - 1
    if documents == 1:
        return float(value), value[None]
    return float(value), documents * value - (documents - 1) * values[1:]


def _moved(side: Tensor) -> Tensor:
    """Return rows in float64, centred: HSIC doesn't depend on the origin, but precision does."""
    side = side.double()
    return side - side.mean(0)


def _row_sums(side: Tensor, groups: Tensor, documents: int) -> Tensor:
    """Sum over the rows of K~: [n, 1 + D] over all columns, then without each document's."""
    member = (groups[:, None] == torch.arange(documents, device=groups.device)).double()
    sums = side @ (side.T @ member) - member * side.square().sum(-1, keepdim=True)
    return torch.cat([sums.sum(-1, keepdim=True), sums.sum(-1, keepdim=True) - sums], dim=-1)


def _traces(
    sides: tuple[Tensor, Tensor], pairs: tuple[tuple[int, int], ...], sizes: Tensor
) -> Tensor:
    """Return tr(K~L~) of each pair of sides, [pairs, 1 + D]: over all rows, then without documents.

    It is the sum of K~ * L~ over all pairs of rows; without a document, minus the pairs that it is
    in. They are summed in blocks of the Gram matrices or, if there are many rows relative to the
    width, by sum_j (x_i'x_j)(y_i'y_j) = x_i'(X'Y)y_i.
    """
    counts = sizes.tolist()
    n, widths = sum(counts), [side.shape[1] for side in sides]
    by_columns = 4 * sum(widths[i] * widths[j] for i, j in pairs) < n * sum(widths)
    inside = sides[0].new_zeros(len(pairs), len(counts))  # both rows belong to the document
    touching = torch.zeros_like(inside)  # the first row does
    begin = 0
    for document, count in enumerate(counts):
        # The Gram matrices are symmetric: only products of this document's rows with later ones are
        # needed.
        until = begin + count if by_columns else n
        grams = [side[begin : begin + count] @ side[begin:until].T for side in sides]
        for gram in grams:
            gram.diagonal().zero_()
        for number, (i, j) in enumerate(pairs):
            columns = (grams[i] * grams[j]).sum(0)
            inside[number, document] = columns[:count].sum()
            if not by_columns:
                shared = _sums(columns, counts[document:])
                touching[number, document] += shared.sum()
                touching[number, document + 1 :] += shared[1:]
        begin += count
    if by_columns:
        squares = [side.square().sum(-1) for side in sides]
        for number, (i, j) in enumerate(pairs):
            x, y = sides[i], sides[j]
            partners = ((x @ (x.T @ y)) * y).sum(-1) - squares[i] * squares[j]
            touching[number] = _sums(partners, counts)
    everything = touching.sum(-1, keepdim=True)
    return torch.cat([everything, everything - 2 * touching + inside], dim=-1)


def _sums(values: Tensor, counts: list[int]) -> Tensor:
    """Return the sums of consecutive runs of values."""
    return torch.stack([part.sum() for part in values.split(counts)])
