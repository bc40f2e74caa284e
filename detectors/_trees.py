"""Gradient-boosted regression trees as tensors: fitted by scikit-learn, kept and walked without it.

A model of scikit-learn can only be kept as a pickle, and a pickle runs code when it is read. Here every tree is five
rows of an array, and what was loaded gives the same bits as what was fitted, because both are walked by `log_odds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ._fit import balanced_weights

Floats = npt.NDArray[np.float64]

TREES, DEPTH, RATE, SUBSAMPLE, LEAF = 200, 3, 0.05, 0.7, 10
SETTINGS: Mapping[str, object] = MappingProxyType(
    {"trees": TREES, "depth": DEPTH, "rate": RATE, "subsample": SUBSAMPLE, "leaf": LEAF, "columns": "square root"}
)
KEYS = ("feature", "threshold", "left", "right", "value")


def boosted(X: npt.NDArray[np.float32], is_fake: npt.NDArray[np.int64], seed: int) -> dict[str, Tensor]:
    """Trees fitted to rows X [N, D], both sides weighing the same: KEYS -> tensors [trees, nodes].

    A node with left = right = itself is a leaf; `value` holds its share of the log-odds, the rate included.
    """
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(
        # From log-odds of 0: both sides weigh half.
        init="zero",
        n_estimators=TREES,
        max_depth=DEPTH,
        learning_rate=RATE,
        subsample=SUBSAMPLE,
        min_samples_leaf=LEAF,
        max_features="sqrt",
        random_state=seed,
    )
    model.fit(X, is_fake, sample_weight=balanced_weights(is_fake))
    return _arrays([estimator.tree_ for estimator in model.estimators_[:, 0]])


def _arrays(trees: list[Any]) -> dict[str, Tensor]:
    most = max(tree.node_count for tree in trees)
    shape = (len(trees), most)
    found = {key: np.zeros(shape, dtype=np.float64 if key in ("threshold", "value") else np.int64) for key in KEYS}
    for row, tree in enumerate(trees):
        n, own = tree.node_count, np.arange(tree.node_count)
        leaf = tree.children_left < 0
        found["feature"][row, :n] = np.where(leaf, 0, tree.feature)
        found["threshold"][row, :n] = np.where(leaf, 0.0, tree.threshold)
        found["left"][row, :n] = np.where(leaf, own, tree.children_left)
        found["right"][row, :n] = np.where(leaf, own, tree.children_right)
        found["value"][row, :n] = RATE * tree.value[:, 0, 0]
    return {key: torch.from_numpy(values) for key, values in found.items()}


def log_odds(trees: Mapping[str, Tensor], rows: Tensor) -> Tensor:
    """Log-odds of fake float64 [N] of rows float32 [N, D]: from each tree the leaf a row falls into, added up in order.

    A row goes left where its column is at most the threshold.
    """
    count = len(trees["feature"])
    tree = torch.arange(count)
    node = torch.zeros(len(rows), count, dtype=torch.int64)
    wide = rows.double()
    for _ in range(DEPTH):
        goes_left = wide.gather(1, trees["feature"][tree, node]) <= trees["threshold"][tree, node]
        node = torch.where(goes_left, trees["left"][tree, node], trees["right"][tree, node])
    return trees["value"][tree, node].sum(1)


def check(trees: Mapping[str, Tensor], columns: int) -> None:
    """KeyError or ValueError unless these are whole trees over so many columns, each node's children inside it."""
    shape = trees["feature"].shape
    if len(shape) != 2 or any(trees[key].shape != shape for key in KEYS):
        raise ValueError(f"trees of shapes {[tuple(trees[key].shape) for key in KEYS]} are no trees")
    for key, most in (("feature", columns), ("left", shape[1]), ("right", shape[1])):
        values = trees[key]
        if values.dtype != torch.int64 or int(values.min()) < 0 or int(values.max()) >= most:
            raise ValueError(f"{key} of a tree lies outside 0 to {most - 1}")
