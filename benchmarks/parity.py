"""Every dialect of evalkit beside its peer on the same files: how far apart they are, and where a peer is wrong.

    python -m benchmarks.parity [--weights FILE ...] [--sections NAME ...]

Prints two Markdown tables: agreements, with the largest relative difference and what is allowed (1e-5 for features,
1e-6 for statistics of equal features, 0.01 grey level for a resizer), and differences on purpose. Without `--weights`
Inception has random weights, the same on both sides. `--weights pt_inception-2015-12-05-6726825d.pth` compares with the
published ones, and `--weights inception-2015-12-05.pt` with the TorchScript that clean-fid loads.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import torch

from . import _peer_distances as distances
from . import _peer_images as images
from . import _peer_scores as scores
from ._peer_claims import Claim, Difference
from ._peer_images import Ground


def _folders(ground: Ground) -> Iterator[Claim]:
    yield from images.folder_claims(ground)
    yield from images.folder_claims(ground, n=16, width=2048, target=1e-4)


def _numbers(_: Ground) -> Iterator[Claim]:
    yield from distances.frechet_claims()
    yield from distances.kernel_claims()
    yield from distances.cmmd_and_mind_claims()
    yield from scores.score_claims()
    yield from scores.neighbour_claims()
    yield from scores.mifid_claims()
    yield from scores.ms_ssim_claims(images.synthetic(2, 256, 256))


SECTIONS: Mapping[str, Callable[[Ground], Iterable[Claim]]] = MappingProxyType(
    {
        "resize": images.resize_claims,
        "features": images.feature_claims,
        "numbers": _numbers,
        "lpips": images.lpips_claims,
        "folders": _folders,
    }
)


def differences(ground: Ground) -> Iterator[Difference]:
    """Where evalkit is not what a peer is, on purpose."""
    yield from distances.frechet_differences()
    yield from distances.kernel_differences()
    yield from distances.cmmd_differences()
    yield from scores.neighbour_differences()
    yield from scores.mifid_differences()
    yield from scores.ms_ssim_differences(images.synthetic(2, 256, 256))
    found = images.dialect_spread(ground)
    low, high = min(found.values()), max(found.values())
    yield Difference(
        "FID of one pair of folders of 64 px images, 64 features, by resizer alone",
        ", ".join(f"{name} {value:.4g}" for name, value in found.items()),
        "one number, called FID",
        f"up to {high / low - 1:.1%} apart: the dialect is part of the instrument's name and compare refuses a mix",
        high > low * 1.001,
    )


def agreement_table(claims: Iterable[Claim]) -> str:
    """What | ours | peer | largest difference | target | met."""
    lines = ["| what | ours | peer | largest relative difference | target | met |", "|---|---|---|---|---|---|"]
    for claim in claims:
        sizes = [f"{x:.1e} {claim.unit}".strip() for x in (claim.difference, claim.target)]
        lines.append("| " + " | ".join([claim.what, claim.ours, claim.peer, *sizes, _yes(claim.is_met)]) + " |")
    return "\n".join(lines)


def difference_table(found: Iterable[Difference]) -> str:
    """Where | ours | peer | what is true | shown here."""
    lines = ["| where | evalkit | peer | what is true | shown |", "|---|---|---|---|---|"]
    lines += [f"| {d.what} | {d.ours} | {d.peer} | {d.truth} | {_yes(d.is_shown)} |" for d in found]
    return "\n".join(lines)


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


def main() -> None:
    """Print both tables; exit 1 when an agreement is not met or a difference is not shown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, nargs="*", default=[], help="published files: .pth and/or .pt")
    parser.add_argument("--sections", nargs="*", default=[*SECTIONS, "differences"])
    given = parser.parse_args()
    # The other backends agree with this one to 1e-5, which is what is allowed here altogether.
    os.environ.setdefault("EVALKIT_BACKEND", "torch")
    warnings.simplefilter("ignore")
    by_suffix = {path.suffix: path.resolve() for path in given.weights}
    with tempfile.TemporaryDirectory() as folder:
        ground = Ground(Path(folder), by_suffix.get(".pth"), by_suffix.get(".pt"))
        wanted = [SECTIONS[name](ground) for name in SECTIONS if name in given.sections]
        claims = list(_reported(chain.from_iterable(wanted)))
        shown = list(differences(ground)) if "differences" in given.sections else []
    weights = "published" if given.weights else "random"
    print(f"torch {torch.__version__}, {weights} Inception weights\n\n{agreement_table(claims)}")
    if shown:
        print(f"\n{difference_table(shown)}")
    sys.exit(not all([c.is_met for c in claims] + [d.is_shown for d in shown]))


def _reported(claims: Iterable[Claim]) -> Iterator[Claim]:
    """The claims, each named on stderr as it is settled."""
    for claim in claims:
        print(f"{claim.what}: {claim.ours} | {claim.peer}: {claim.difference:.2e}", file=sys.stderr)
        yield claim


if __name__ == "__main__":
    main()
