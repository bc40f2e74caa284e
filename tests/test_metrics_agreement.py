"""Agreement of label and class: by hand, on real digits, and where nothing can be said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from evalkit.errors import DoesNotApply
from evalkit.extractors.digits_net import DigitsNet
from evalkit.measurement import Bench, measure
from evalkit.metrics.agreement import agreement
from evalkit.samples import ListedSet, open_samples
from evalkit.samples.arrays import from_texts
from evalkit.types import Features


def labelled(groups: list[str] | None, logits: torch.Tensor) -> Features:
    return Features(logits, "toy", from_texts([f"sample {i}" for i in range(len(logits))], groups=groups))


def test_three_of_four_by_hand() -> None:
    found = agreement.fn(labelled(["0", "1", "2", "2"], torch.eye(3)[[0, 1, 2, 0]]))
    assert found.value == 0.75
    # Wilson for 3 of 4, z = 1.96: (0.75 + z2/8 -+ z sqrt(0.75 * 0.25 / 4 + z2/64)) / (1 + z2/4)
    assert (found.low, found.high) == (pytest.approx(0.3006, abs=1e-4), pytest.approx(0.9544, abs=1e-4))


def test_labels_that_are_no_class_are_left_out_and_none_at_all_is_said() -> None:
    assert agreement.fn(labelled(["0", "cat", "7"], torch.eye(3))).value == 1.0
    for groups in (["cat", "dog", "9"], None):
        with pytest.raises(DoesNotApply, match="number of a class"):
            agreement.fn(labelled(groups, torch.eye(3)))


def test_real_digits_agree_and_shuffled_labels_do_not() -> None:
    real = open_samples("embedded:digits/heldout")
    rows = measure(real, [DigitsNet()], Bench()).features["digits_net"].head("logits")
    listed = tuple(real)
    moved = tuple(replace(s, group=listed[i - 1].group) for i, s in enumerate(listed))
    right, wrong = agreement.fn(rows), agreement.fn(replace(rows, samples=ListedSet("moved", "image", moved)))
    assert right.low > 0.9
    assert wrong.high < 0.3
