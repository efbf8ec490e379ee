"""How much of the differences between arms texts tell: Haseman and Elston's regression over all pairs of queries.

Products of the contrasts of two queries are regressed on the similarity of their encodings. Luck is not shared by two
queries, so the slope is free of it, and says what a linear model of the encoding would explain if it were fitted to
endlessly many queries, assuming that it uses all directions of the encoding alike. So is heritability found: from pairs
of relatives (Haseman and Elston 1972), from genotypes (Yang et al. 2010).

N queries, A arms, E the encoding, B permutations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatQA

PERMUTATIONS = 399
_TINY = 1e-12
Float = NDArray[np.float64]


class Regressed(NamedTuple):
    """One task: the contrasts' variance, the covariance of what the text tells, its trace's error and null draws."""

    variance: float
    covariance_AA: Float
    told_AA: Float
    error: float
    permuted_B: Float


def regress_pairs(contrast_NA: FloatQA, embedding_NE: Float, rng: np.random.Generator) -> Regressed:
    """Haseman-Elston regression, with an intercept, over all pairs of a task's queries, by moments.

    The sum over pairs needs no pairs: it is that of all products less each query's with itself. Its mean over
    permutations of the texts is exactly the intercept's part, so that it is 0 on average where texts tell nothing.
    """
    n = len(contrast_NA)
    contrast_NA = contrast_NA - contrast_NA.mean(axis=0)
    embedding_NE = embedding_NE - embedding_NE.mean(axis=0)
    square_N, size_N = (embedding_NE**2).sum(axis=1), (contrast_NA**2).sum(axis=1)
    product_AA = contrast_NA.T @ contrast_NA
    gram_EE = embedding_NE.T @ embedding_NE
    pairs = n * (n - 1)
    spread = float((gram_EE**2).sum() - (square_N**2).sum() - square_N.sum() ** 2 / pairs)
    scale = square_N.mean() / spread if spread > _TINY else 0.0
    intercept = square_N.sum() / pairs

    cross_EA = embedding_NE.T @ contrast_NA
    own_AA = (contrast_NA * square_N[:, None]).T @ contrast_NA
    told_AA = scale * (cross_EA.T @ cross_EA - own_AA - intercept * product_AA)
    permuted_B = np.empty(PERMUTATIONS)
    for draw in range(PERMUTATIONS):
        order = rng.permutation(n)
        others = ((embedding_NE.T @ contrast_NA[order]) ** 2).sum() - square_N @ size_N[order]
        permuted_B[draw] = scale * (others - intercept * size_N.sum())
    null = float((permuted_B**2).mean())
    # Each query's part of the sum: their spread is the error where there is signal. Without any it is twice the null's.
    each_N = (contrast_NA * (embedding_NE @ cross_EA)).sum(axis=1) - (square_N + intercept) * size_N
    jackknife = 4 * scale**2 * float(((each_N - each_N.mean()) ** 2).sum())
    square = max(jackknife - null, null) + _unevenness(gram_EE, told_AA)
    covariance_AA = product_AA / (n - 1)
    variance = float(np.trace(covariance_AA))
    told_AA = _steadied(told_AA, covariance_AA, null)
    return Regressed(variance, covariance_AA, told_AA, float(np.sqrt(square)), permuted_B)


def _steadied(told_AA: Float, covariance_AA: Float, null: float) -> Float:
    """What the text tells, as it lies over arms, drawn towards the same amount that lies as all contrasts do.

    As far as it is noise (James and Stein): too few directions would make the best of the arms look worse. `null` is
    the variance of the amount where nothing is told; that of all entries is larger by the number of directions.
    """
    size, square = float(np.trace(covariance_AA)), float((covariance_AA**2).sum())
    alike_AA = np.trace(told_AA) / (size + _TINY) * covariance_AA
    noise = null * (size**2 + square) / (2 * square + _TINY)
    kept = max(0.0, 1 - noise / (float(((told_AA - alike_AA) ** 2).sum()) + _TINY))
    return np.asarray(kept * told_AA + (1 - kept) * alike_AA)


def _unevenness(gram_EE: Float, told_AA: Float) -> float:
    """The squared error of what is told because slopes that are alike on average differ between directions by chance.

    With slopes b of variance 1 in directions of variances s, the regression finds `sum s^2 b^2 sum s / sum s^2`, and
    `sum s b^2` is told. The fewer directions the text and the arms have, the further these lie apart.
    """
    spectrum_E = np.maximum(np.linalg.eigvalsh(gram_EE), 0.0)
    if spectrum_E.sum() <= _TINY:
        return 0.0
    found_A = np.maximum(np.linalg.eigvalsh(told_AA), 0.0)
    part_E = spectrum_E / spectrum_E.sum()
    off_E = part_E * (part_E / (part_E**2).sum() - 1)
    return float(2 * (found_A**2).sum() * (off_E**2).sum())
