"""Claims about distances of two sets of rows: Frechet, kernel, CMMD and MIND beside each peer's, given equal rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evalkit.metrics.cmmd import cmmd_distance, cmmd_estimates
from evalkit.metrics.frechet import frechet_distance
from evalkit.metrics.kernel import kernel_distance, subset_estimates
from evalkit.metrics.mind import sliced_distance
from evalkit.types import Moments

from ._peer_claims import Claim, Difference, Same, apart, named, rows
from ._peer_networks import has_old_sqrtm, module, version_of

# Frechet --------------------------------------------------------------------------------------------------


def moments(given: Tensor) -> tuple[Any, Any]:
    """Mean and covariance as numpy has them, float64."""
    return given.numpy().mean(axis=0), np.cov(given.numpy(), rowvar=False)


def exact_frechet(real: Tensor, fake: Tensor) -> float:
    """The distance of fewer rows than columns without a singular root: the nuclear norm of the rows' own product."""
    one, other = ((r - r.mean(dim=0)) / math.sqrt(len(r) - 1) for r in (real.double(), fake.double()))
    root = float(np.linalg.svd((one @ other.T).numpy(), compute_uv=False).sum())
    gap = real.double().mean(dim=0) - fake.double().mean(dim=0)
    return float(gap @ gap) + float(one.square().sum()) + float(other.square().sum()) - 2 * root


def peer_distances(real: Tensor, fake: Tensor) -> Iterator[tuple[str, float]]:
    """Each peer's Frechet distance of the same rows."""
    (mu, sigma), (nu, tau) = moments(real), moments(fake)
    given = {"mu": mu, "sigma": sigma}, {"mu": nu, "sigma": tau}
    if version_of("torch-fidelity"):
        found = module("torch_fidelity.metric_fid").fid_statistics_to_metric(*given, verbose=False)
        yield f"{named('torch-fidelity')}, numpy eigvals", float(found["frechet_inception_distance"])
    theirs = module("torchmetrics.image.fid").FrechetInceptionDistance(feature=Same(real.shape[1]))
    theirs.set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    yield f"{named('torchmetrics')}, torch eigvals", float(theirs.compute())
    if version_of("pytorch-fid") and has_old_sqrtm():
        found = module("pytorch_fid.fid_score").calculate_frechet_distance(mu, sigma, nu, tau)
        yield f"{named('pytorch-fid')}, scipy sqrtm", float(found)
    if has_old_sqrtm():
        found = module("cleanfid.fid").frechet_distance(mu, sigma, nu, tau)
        yield f"{named('clean-fid')}, scipy sqrtm", float(found)


def frechet_claims(n: int = 1500, d: int = 256) -> Iterator[Claim]:
    """Above the dimension all agree; below it evalkit is the exact one."""
    real, fake = rows(n, d, 0), rows(n, d, 1, 1.2)
    ours = frechet_distance(real, fake)
    for peer, theirs in peer_distances(real, fake):
        yield Claim(f"Frechet, N = {n} > d = {d}", "frechet_distance", peer, apart(ours, theirs), 1e-6)
    (mu, sigma), (nu, tau) = (map(torch.from_numpy, moments(side)) for side in (real, fake))
    given = Moments(mu, sigma, n), Moments(nu, tau, n)
    yield Claim("Frechet of statistics", "Moments", "of the rows", apart(frechet_distance(*given), ours), 1e-6)
    few = real[: d // 4], fake[: d // 4]
    definition = apart(frechet_distance(*few), exact_frechet(*few))
    yield Claim(f"Frechet, N = {d // 4} < d = {d}", "frechet_distance", "nuclear norm, numpy svd", definition, 1e-9)


def frechet_differences(n: int = 64, d: int = 512) -> Iterator[Difference]:
    """The root of a singular product: eigenvalues that are 0 come out as rounding, and their roots are not small."""
    real, fake = rows(n, d, 0), rows(n, d, 1, 1.2)
    exact, ours = exact_frechet(real, fake), frechet_distance(real, fake)
    for peer, theirs in peer_distances(real, fake):
        yield Difference(
            f"Frechet, N = {n} < d = {d}: {peer}",
            f"{ours:.9f}",
            f"{theirs:.9f}",
            f"{exact:.9f} (svd of the rows' product, float64)",
            abs(ours - exact) < 0.01 * abs(theirs - exact),
        )


# Kernel ---------------------------------------------------------------------------------------------------


def torchmetrics_kernel(real: Tensor, fake: Tensor, subsets: int, size: int, seed: int) -> tuple[float, float]:
    """Mean and standard deviation, drawn after seeding torch's global generator."""
    theirs = module("torchmetrics.image.kid").KernelInceptionDistance(
        feature=Same(real.shape[1]), subsets=subsets, subset_size=size
    )
    theirs.set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    torch.manual_seed(seed)
    mean, std = theirs.compute()
    return float(mean), float(std)


def clean_kernel(real: Tensor, fake: Tensor, subsets: int, seed: int | None) -> float:
    """clean-fid's, after seeding numpy's global generator, or with it as it stands."""
    if seed is not None:
        np.random.seed(seed)
    return float(module("cleanfid.fid").kernel_distance(real.numpy(), fake.numpy(), num_subsets=subsets))


def kernel_claims(n: int = 400, d: int = 128) -> Iterator[Claim]:
    """The same subsets give the same numbers; one subset of everything is the distance over all pairs."""
    real, fake, subsets, size = rows(n, d, 0), rows(n + 50, d, 1, 1.2), 20, n // 4
    if version_of("torch-fidelity"):
        for name, count, part in (("kid, dialect torch_fidelity", subsets, size), ("kid, all pairs", 1, n)):
            theirs = module("torch_fidelity.metric_kid").kid_features_to_metric(
                fake[:n], real, kid_subsets=count, kid_subset_size=part, verbose=False
            )
            expected = [theirs[f"kernel_inception_distance_{what}"] for what in ("mean", "std")]
            if count == 1:
                ours, expected = [kernel_distance(real, fake[:n])], expected[:1]
            else:
                found = subset_estimates(real, fake[:n], subsets=count, subset_size=part, dialect="torch_fidelity")
                ours = [found[what].value for what in ("", "subset_std")]
            yield Claim(f"KID, {count} x {part} of {n}", name, named("torch-fidelity"), apart(ours, expected), 1e-6)
    found = subset_estimates(real, fake, subsets=subsets, subset_size=size, dialect="torchmetrics", seed=5)
    pair = [found[what].value for what in ("", "subset_std")]
    expected = list(torchmetrics_kernel(real, fake, subsets, size, 5))
    what = f"KID, {subsets} x {size} of {n}"
    yield Claim(what, "kid, dialect torchmetrics", named("torchmetrics"), apart(pair, expected), 1e-6)
    found = subset_estimates(real, fake, subsets=subsets, dialect="clean_fid", seed=7)
    theirs = clean_kernel(real, fake, subsets, 7)
    yield Claim(
        f"KID, {subsets} x {n} of {n}",
        "kid, dialect clean_fid",
        named("clean-fid"),
        apart(found[""].value, theirs),
        1e-6,
    )


def kernel_differences(n: int = 1000, d: int = 256) -> Iterator[Difference]:
    """Subsets drawn without a seed are another number at every call."""
    real, fake = rows(n, d, 0), rows(n, d, 1)
    clean = [clean_kernel(real[:300], fake[: n // 2], 10, None) for _ in range(2)]
    yield Difference(
        f"KID twice on the same features: {named('clean-fid')}",
        " and ".join(f"{kernel_distance(real[:300], fake[: n // 2]):.6g}" for _ in range(2)),
        f"{clean[0]:.6g} and {clean[1]:.6g}",
        "one number: all pairs, nothing drawn",
        clean[0] != clean[1],
    )


# CMMD and MIND -------------------------------------------------------------------------------------------


def cmmd_and_mind_claims(n: int = 310) -> Iterator[Claim]:
    """Against the definition written out; MIND against torch-fidelity where it has one (0.4.0 has none)."""
    real, fake = rows(n, 64, 0), rows(n, 64, 1, 1.1)
    written_out = "definition, float64"
    yield Claim("CMMD, sigma 10", "cmmd", written_out, apart(cmmd_distance(real, fake), _cmmd(real, fake)), 1e-6)
    ours = sliced_distance(real, fake)
    yield Claim("MIND, 1,000 directions", "mind", written_out, apart(ours, _mind(real, fake)), 1e-6)
    if _has("torch_fidelity.metric_mind"):
        mind = module("torch_fidelity.metric_mind")
        theirs = mind.mind_features_to_metric(real, fake, cuda=False, verbose=False)[mind.KEY_METRIC_MIND]
        yield Claim("MIND, 1,000 directions", "mind", named("torch-fidelity"), apart(ours, theirs), 1e-6)


def _has(name: str) -> bool:
    try:
        module(name)
    except ImportError:
        return False
    return True


def _cmmd(real: Tensor, fake: Tensor) -> float:
    """1000 (mean k(x, x') + mean k(y, y') - 2 mean k(x, y)), pairs of a row with itself counted."""
    x, y = (torch.nn.functional.normalize(side) for side in (real, fake))

    def mean(a: Tensor, b: Tensor) -> float:
        return float(torch.exp(-(a[:, None] - b[None]).square().sum(dim=2) / 200).mean())

    return 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


def _mind(real: Tensor, fake: Tensor) -> float:
    """3 d times the mean over 1,000 drawn directions of the mean squared gap of sorted projections, in float64."""
    directions = torch.randn(1000, real.shape[1], generator=torch.Generator().manual_seed(2020)).double()
    directions = directions / directions.norm(dim=1, keepdim=True)
    shadows = [np.sort((side @ directions.T).numpy(), axis=0) for side in (real, fake)]
    return float(3 * real.shape[1] * np.square(shadows[0] - shadows[1]).mean())


def cmmd_differences(n: int = 400, d: int = 96) -> Iterator[Difference]:
    """The published bandwidth sees means and next to nothing of the spread."""
    full = torch.nn.functional.normalize(torch.randn(2 * n, d, generator=torch.Generator().manual_seed(1)))
    collapsed = torch.nn.functional.normalize(full[n:] * (torch.arange(d) < d // 16))
    found = {name: part.value for name, part in cmmd_estimates(full[:n], collapsed).items()}
    fresh = {name: part.value for name, part in cmmd_estimates(full[:n], full[n:]).items()}
    yield Difference(
        "CMMD with sigma 10, of a generator that fills a sixteenth of the directions around the right mean",
        f"median bandwidth: {found['median']:.3g}, of fresh real data {fresh['median']:.3g}",
        f"sigma 10: {found['']:.3g}, of fresh real data {fresh['']:.3g}",
        "collapse must cost; evalkit keeps sigma 10 for parity and puts the median bandwidth beside it",
        found["median"] > 2 * fresh["median"] and found[""] < 1.5 * fresh[""],
    )
