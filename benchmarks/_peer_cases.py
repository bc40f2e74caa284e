"""Statistics of synthetic features, side by side: Frechet distance, kernel distance, precision and recall."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._peer_networks import has_old_sqrtm, module, version_of

WIDTH = 2048
SMALL, LARGE, ABOVE = 1000, 10_000, 4096


def features(n: int, seed: int) -> Tensor:
    """Rows [n, 2048] float32 like pooled activations: at least 0, some hundred directions strong and the rest weak."""
    mixing = torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(99)) / 16
    rng = torch.Generator().manual_seed(seed)
    hidden = (1 + 0.1 * seed) * torch.randn(n, 256, generator=rng)
    return torch.relu(hidden @ mixing + 0.3 * torch.randn(n, WIDTH, generator=rng))


@dataclass(frozen=True)
class Case:
    """One tool's way to a number: importing `modules` and `prepare` are not timed, `run` is."""

    run: Callable[..., float]
    prepare: Callable[[Tensor, Tensor], tuple[Any, ...]] = lambda real, fake: (real, fake)
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ("evalkit.metrics.frechet", "evalkit.metrics.kernel", "evalkit.metrics.neighbours")
    needs_old_scipy: bool = False

    @property
    def is_here(self) -> bool:
        return all(map(version_of, self.packages)) and (has_old_sqrtm() or not self.needs_old_scipy)


@dataclass(frozen=True)
class Topic:
    """The same question put to several tools, with n rows a side."""

    title: str
    n: int
    cases: Mapping[str, Case]


# Frechet --------------------------------------------------------------------------------------------------


def _gaussians(real: Tensor, fake: Tensor) -> tuple[Any, ...]:
    sides = [rows.double().numpy() for rows in (real, fake)]
    return tuple(part for rows in sides for part in (rows.mean(axis=0), np.cov(rows, rowvar=False)))


def _moments(real: Tensor, fake: Tensor) -> tuple[Any, ...]:
    from evalkit.types import Moments

    mu, sigma, nu, tau = (torch.from_numpy(part) for part in _gaussians(real, fake))
    return Moments(mu, sigma, len(real)), Moments(nu, tau, len(fake))


def _frechet(real: Any, fake: Any) -> float:
    from evalkit.metrics.frechet import frechet_distance

    return frechet_distance(real, fake)


def _frechet_with_interval(real: Tensor, fake: Tensor) -> float:
    from evalkit.metrics.frechet import frechet_estimate

    return frechet_estimate(real, fake).value


def _eigvals(*given: Any) -> float:
    sides = [{"mu": given[i], "sigma": given[i + 1]} for i in (0, 2)]
    found = module("torch_fidelity.metric_fid").fid_statistics_to_metric(*sides, verbose=False)
    return float(found["frechet_inception_distance"])


def _torch_eigvals(*given: Any) -> float:
    return float(module("torchmetrics.image.fid")._compute_fid(*(torch.from_numpy(part) for part in given)))


def _sqrtm(*given: Any) -> float:
    return float(module("pytorch_fid.fid_score").calculate_frechet_distance(*given))


def _clean_sqrtm(*given: Any) -> float:
    return float(module("cleanfid.fid").frechet_distance(*given))


FRECHET_PEERS = {
    "torch-fidelity (eigvals)": Case(_eigvals, _gaussians, ("torch-fidelity",), ("torch_fidelity.metric_fid",)),
    "torchmetrics (eigvals)": Case(_torch_eigvals, _gaussians, ("torch-fidelity",), ("torchmetrics.image.fid",)),
    "pytorch-fid (sqrtm)": Case(_sqrtm, _gaussians, ("pytorch-fid",), ("pytorch_fid.fid_score",), True),
    "clean-fid (sqrtm)": Case(_clean_sqrtm, _gaussians, ("clean-fid",), ("cleanfid.fid",), True),
}


# Kernel ---------------------------------------------------------------------------------------------------


def _kernel(real: Tensor, fake: Tensor) -> float:
    from evalkit.metrics.kernel import kernel_estimate

    return kernel_estimate(real, fake).value


def _kernel_subsets(real: Tensor, fake: Tensor) -> float:
    from evalkit.metrics.kernel import subset_estimates

    return subset_estimates(real, fake, dialect="torch_fidelity")[""].value


def _fidelity_kernel(real: Tensor, fake: Tensor) -> float:
    found = module("torch_fidelity.metric_kid").kid_features_to_metric(fake, real, verbose=False)
    return float(found["kernel_inception_distance_mean"])


def _torchmetrics_kernel(real: Tensor, fake: Tensor) -> float:
    class Same(torch.nn.Module):
        num_features = WIDTH

        def forward(self, rows: Tensor) -> Tensor:
            return rows

    found = module("torchmetrics.image.kid").KernelInceptionDistance(feature=Same())
    found.update(real, real=True)
    found.update(fake, real=False)
    return float(found.compute()[0])


def _clean_kernel(real: Tensor, fake: Tensor) -> float:
    return float(module("cleanfid.fid").kernel_distance(real.numpy(), fake.numpy()))


KERNEL = {
    "evalkit (all pairs, with interval)": Case(_kernel),
    "evalkit (100 subsets, torch-fidelity's draws)": Case(_kernel_subsets),
    "torch-fidelity": Case(_fidelity_kernel, packages=("torch-fidelity",), modules=("torch_fidelity.metric_kid",)),
    "torchmetrics": Case(_torchmetrics_kernel, packages=("torch-fidelity",), modules=("torchmetrics.image.kid",)),
    "clean-fid": Case(_clean_kernel, packages=("clean-fid",), modules=("cleanfid.fid",)),
}


# Neighbours -----------------------------------------------------------------------------------------------


def _balls(real: Tensor, fake: Tensor) -> float:
    from evalkit.metrics.neighbours import precision_recall_density_coverage

    return precision_recall_density_coverage(real, fake, k=5)["density"]


def _balls_with_intervals(real: Tensor, fake: Tensor) -> float:
    from evalkit.metrics.neighbours import neighbour_estimates

    return neighbour_estimates(real, fake, k=5)["density"].value


def _prdc(real: Tensor, fake: Tensor) -> float:
    return float(module("prdc").compute_prdc(real.numpy(), fake.numpy(), nearest_k=5)["density"])


def _fidelity_prc(real: Tensor, fake: Tensor) -> float:
    found = module("torch_fidelity.metric_prc").prc_features_to_metric(fake, real, prc_neighborhood=5, verbose=False)
    return float(found["precision"])


NEIGHBOURS = {
    "evalkit (four shares)": Case(_balls),
    "evalkit (four shares, with intervals)": Case(_balls_with_intervals),
    "prdc (four shares)": Case(_prdc, packages=("prdc",), modules=("prdc",)),
    "torch-fidelity (precision and recall)": Case(
        _fidelity_prc, packages=("torch-fidelity",), modules=("torch_fidelity.metric_prc",)
    ),
}

TOPICS: Mapping[str, Topic] = MappingProxyType(
    {
        "frechet-below": Topic(
            f"Frechet distance, N = {SMALL} < d = {WIDTH}; peers start at mean and covariance, evalkit at the rows",
            SMALL,
            {
                "evalkit": Case(_frechet),
                "evalkit (with interval and attribution)": Case(_frechet_with_interval),
                **FRECHET_PEERS,
            },
        ),
        "frechet-above": Topic(
            f"Frechet distance, N = {ABOVE} > d = {WIDTH}; all start at mean and covariance, except with interval",
            ABOVE,
            {
                "evalkit": Case(_frechet, _moments),
                "evalkit (from rows, with interval and attribution)": Case(_frechet_with_interval),
                **FRECHET_PEERS,
            },
        ),
        "kid-1k": Topic(f"Kernel distance, N = {SMALL}", SMALL, KERNEL),
        "kid-10k": Topic(f"Kernel distance, N = {LARGE}", LARGE, KERNEL),
        "prdc-1k": Topic(f"Neighbours, k = 5, N = {SMALL}", SMALL, NEIGHBOURS),
        "prdc-10k": Topic(f"Neighbours, k = 5, N = {LARGE}", LARGE, NEIGHBOURS),
    }
)
