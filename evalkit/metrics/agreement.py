"""Whether a conditional generator makes what it was asked for: a classifier's class against the sample's label."""

from __future__ import annotations

import torch

from ..errors import DoesNotApply
from ..resample import LEVEL, moves_of_mean
from ..types import Estimate, Features, metric
from ._guards import rows_of
from .detection import wilson


@metric(on={"image": "digits_net", "text": None}, better="higher", unit="share", reads="logits", min_n=2)
def agreement(fake: Features) -> Estimate:
    """Share of labelled samples whose most probable class is their label, in 0..1; labels are class numbers.

    The classifier's own error is in it: compare with the ceiling. Interval: Wilson. Raises DoesNotApply when no sample
    has a label that is the number of a class. Ravuri & Vinyals 2019, section 3, without their retraining.
    """
    logits = rows_of("fake", fake.rows)
    labels = [s.group for s in fake.samples]
    known = [i for i, g in enumerate(labels) if g is not None and g.isdecimal() and int(g) < logits.shape[1]]
    if not known:
        raise DoesNotApply("no sample has a label that is the number of a class")
    hits = logits[known].argmax(1).tolist()
    right = [float(hit == int(str(labels[i]))) for hit, i in zip(hits, known, strict=True)]
    share = sum(right) / len(right)
    low, high = wilson(share, len(right))
    moved = torch.zeros(len(labels), dtype=torch.float64)
    moved[known] = moves_of_mean(torch.tensor(right))
    return Estimate(share, min(low, share), max(high, share), "wilson", LEVEL, moves={"fake": moved})
