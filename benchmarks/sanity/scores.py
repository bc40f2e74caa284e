"""The metrics that are looked at, each as a number for real and generated rows, by kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from evalkit.metrics.clipped import clipped_density_coverage
from evalkit.metrics.cmmd import cmmd_estimates
from evalkit.metrics.frechet import frechet_distance, frechet_unbiased
from evalkit.metrics.kernel import kernel_distance
from evalkit.metrics.mind import sliced_distance
from evalkit.metrics.neighbours import precision_recall_density_coverage
from evalkit.metrics.realism import realism_scores
from evalkit.metrics.two_sample import two_sample_test
from evalkit.metrics.vendi import vendi_score

from .draws import Rows
from .scenarios import Kind

# The paper's precision and recall look at 3 neighbours; 5 are evalkit's default for all four.
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "precision k=3": "fidelity",
        "precision": "fidelity",
        "density": "fidelity",
        "clipped density": "fidelity",
        "realism": "fidelity",
        "recall k=3": "diversity",
        "recall": "diversity",
        "coverage": "diversity",
        "clipped coverage": "diversity",
        "vendi": "diversity",
        "c2st": "overall",
        "fid": "distance",
        "fid.unbiased": "distance",
        "kid": "distance",
        "cmmd": "distance",
        "cmmd.median": "distance",
        "mind": "distance",
    }
)
TREE_ROWS = 500  # a side, of which the two-sample test is made where the number of rows is not what matters


def _four(real: Tensor, fake: Tensor) -> dict[str, float]:
    return precision_recall_density_coverage(real, fake, k=5)


def _three(real: Tensor, fake: Tensor) -> dict[str, float]:
    found = precision_recall_density_coverage(real, fake, k=3)
    return {"precision k=3": found["precision"], "recall k=3": found["recall"]}


def _clipped(real: Tensor, fake: Tensor) -> dict[str, float]:
    return {f"clipped {part}": score for part, score in clipped_density_coverage(real, fake).items()}


def _cmmd(real: Tensor, fake: Tensor) -> dict[str, float]:
    found = cmmd_estimates(real, fake)
    return {"cmmd": found[""].value, "cmmd.median": found["median"].value}


# One call may give several of the metrics.
CALLS: Mapping[tuple[str, ...], Callable[[Tensor, Tensor], Mapping[str, float]]] = MappingProxyType(
    {
        ("precision", "recall", "density", "coverage"): _four,
        ("precision k=3", "recall k=3"): _three,
        ("clipped density", "clipped coverage"): _clipped,
        ("realism",): lambda real, fake: {"realism": float((realism_scores(real, fake) >= 1).double().mean())},
        # Of generated rows alone, so it is read against what real ones have.
        ("vendi",): lambda real, fake: {"vendi": vendi_score(fake) / vendi_score(real)},
        # Twice the error of the test: 1 where it can only guess.
        ("c2st",): lambda real, fake: {"c2st": 2 * (1 - two_sample_test(real, fake)["accuracy"].value)},
        ("fid",): lambda real, fake: {"fid": frechet_distance(real, fake)},
        ("fid.unbiased",): lambda real, fake: {"fid.unbiased": frechet_unbiased(real, fake).value},
        ("kid",): lambda real, fake: {"kid": kernel_distance(real, fake)},
        ("cmmd", "cmmd.median"): _cmmd,
        ("mind",): lambda real, fake: {"mind": sliced_distance(real, fake)},
    }
)


def scores(real: Rows, fake: Rows, wanted: Collection[str], *, standardise: bool = True) -> dict[str, float]:
    """The wanted metrics of real [N, D] and fake rows [M, D]; standardise: by mean and deviation of the real columns.

    The paper standardises; evalkit's metrics take features as they come.
    """
    if standardise:
        centre, spread = real.mean(axis=0), real.std(axis=0)
        real, fake = ((rows - centre) / spread for rows in (real, fake))
    one, other = torch.from_numpy(real).float(), torch.from_numpy(fake).float()
    found: dict[str, float] = {}
    for names, call in CALLS.items():
        if not set(names).isdisjoint(wanted):
            found.update(call(one, other))
    return {name: found[name] for name in wanted}
