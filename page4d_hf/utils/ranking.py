"""ROC AUC."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata


def auroc(values: npt.ArrayLike, truth: npt.ArrayLike) -> float | None:
    """Area under the ROC curve, as the Mann-Whitney U by the number of pairs (Hanley and McNeil, Radiology 1982).

    It is 0.5 by chance, and `None` where all or none are true.
    """
    true = np.asarray(truth, bool).ravel()
    positives, negatives = int(true.sum()), int((~true).sum())
    if not positives or not negatives:
        return None
    above = rankdata(np.asarray(values).ravel())[true].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))
