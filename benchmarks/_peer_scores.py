"""Claims about scores of generated rows or images: inception score, Vendi, CLIPScore, neighbours, MiFID, MS-SSIM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evalkit.metrics.alignment import clip_score_estimate
from evalkit.metrics.copying import memorization_informed_distance
from evalkit.metrics.diversity import ms_ssim
from evalkit.metrics.frechet import frechet_distance
from evalkit.metrics.inception_score import split_estimates
from evalkit.metrics.neighbours import precision_recall_density_coverage
from evalkit.metrics.vendi import vendi_of_kernel, vendi_score

from ._peer_claims import Claim, Difference, Same, apart, named, rows
from ._peer_networks import module, version_of

SHARES = ("precision", "recall", "density", "coverage")


# Scores of one side ---------------------------------------------------------------------------------------


def score_claims(n: int = 310) -> Iterator[Claim]:
    """Inception score, Vendi and CLIPScore against a peer or the definition written out."""
    logits = 3 * torch.randn(n, 40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    if version_of("torch-fidelity"):
        theirs = module("torch_fidelity.metric_isc").isc_features_to_metric(logits)
        found = split_estimates(logits, dialect="torch_fidelity")
        pair = [found[what].value for what in ("", "split_std")]
        expected = [theirs[f"inception_score_{what}"] for what in ("mean", "std")]
        yield Claim("inception score", "dialect torch_fidelity", named("torch-fidelity"), apart(pair, expected), 1e-6)
    score = module("torchmetrics.image.inception").InceptionScore(feature=Same(40))
    score.update(logits)
    torch.manual_seed(11)
    expected = [float(part) for part in score.compute()]
    found = split_estimates(logits, dialect="torchmetrics", seed=11)
    pair = [found[what].value for what in ("", "split_std")]
    yield Claim("inception score", "dialect torchmetrics", named("torchmetrics"), apart(pair, expected), 1e-6)
    real, fake = rows(50, 64, 0), rows(n, 64, 1, 1.1)
    yield Claim("Vendi score", "vendi", "definition, float64", apart(vendi_score(fake), _vendi(fake)), 1e-6)
    K = torch.tensor([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]], dtype=torch.float64)
    yield Claim(
        "Vendi of a kernel", "vendi_of_kernel", "2.1573, printed by its authors", vendi_of_kernel(K) - 2.1573, 5e-5
    )
    ours = clip_score_estimate(real, fake[:50], scale="x100").value
    yield Claim("CLIPScore x100", "clip_score", named("torchmetrics"), apart(ours, _clip(real, fake[:50])), 1e-6)


def _vendi(given: Tensor) -> float:
    """exp(entropy of the eigenvalues of K / n), K the cosines."""
    unit = torch.nn.functional.normalize(given)
    shares = np.linalg.eigvalsh((unit @ unit.T / len(unit)).numpy())
    shares = shares[shares > 1e-15]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _clip(images: Tensor, prompts: Tensor) -> float:
    """torchmetrics' own function around a network whose embeddings are given."""

    class Model:
        config = SimpleNamespace()

        def to(self, _device: Any) -> Model:
            return self

        def get_image_features(self, _pixels: Tensor) -> Tensor:
            return images

        def get_text_features(self, _ids: Tensor, _mask: Tensor) -> Tensor:
            return prompts

    def processor(**_named: Any) -> dict[str, Tensor]:
        return dict.fromkeys(("pixel_values", "input_ids", "attention_mask"), torch.zeros(1))

    clip = module("torchmetrics.functional.multimodal.clip_score")
    pictures, captions = [torch.zeros(3, 2, 2)] * len(images), ["a caption"] * len(prompts)
    return float(clip.clip_score(pictures, captions, lambda: (Model(), processor)))


# Neighbours -----------------------------------------------------------------------------------------------


def their_prdc(real: Tensor, fake: Tensor, k: int) -> dict[str, float]:
    """The prdc package's four shares; what it prints goes nowhere."""
    with redirect_stdout(StringIO()):
        found = module("prdc").compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
    return {name: float(value) for name, value in found.items()}


def neighbour_claims(n: int = 300, d: int = 32, k: int = 5) -> Iterator[Claim]:
    """Shares of equal balls."""
    real, fake = rows(n, d, 0), rows(n + 40, d, 1, 0.8)
    if version_of("torch-fidelity"):
        theirs = module("torch_fidelity.metric_prc").prc_features_to_metric(
            fake, real, prc_neighborhood=k, verbose=False
        )
        ours = precision_recall_density_coverage(real, fake, k=k)
        pair = [[part[name] for name in SHARES[:2]] for part in (ours, theirs)]
        yield Claim("precision, recall", "prdc", named("torch-fidelity"), apart(*pair), 1e-6)
    if version_of("prdc"):
        theirs = their_prdc(real, fake, k)
        ours = precision_recall_density_coverage(real, fake, k=k, strict=True)
        pair = [[part[name] for name in SHARES] for part in (ours, theirs)]
        yield Claim("precision, recall, density, coverage", "prdc, strict", named("prdc"), apart(*pair), 1e-6)


def neighbour_differences() -> Iterator[Difference]:
    """Balls of radius 0 around repeated samples hold nothing under `<`."""
    if version_of("prdc"):
        given = rows(40, 8, 0).repeat(6, 1)
        theirs = their_prdc(given, given, 5)
        ours = precision_recall_density_coverage(given, given, k=5)
        yield Difference(
            f"a set of samples, each there six times, against itself: {named('prdc')}",
            ", ".join(f"{name} {ours[name]:.3g}" for name in SHARES),
            ", ".join(f"{name} {theirs[name]:.3g}" for name in SHARES),
            "a set is all of itself: precision, recall and coverage 1",
            ours["precision"] == ours["recall"] == ours["coverage"] == 1 and theirs["precision"] < 0.5,
        )


# Memorization ---------------------------------------------------------------------------------------------


def _their_mifid(first: Tensor, second: Tensor) -> float:
    theirs = module("torchmetrics.image.mifid").MemorizationInformedFrechetInceptionDistance(
        feature=Same(first.shape[1])
    )
    theirs.update(first, real=True)
    theirs.update(second, real=False)
    return float(theirs.compute())


def mifid_claims(n: int = 300, d: int = 6) -> Iterator[Claim]:
    """Where generated and training side are handed over in the other order, the distance is the paper's."""
    train, fresh = rows(n, d, 0), rows(n, d, 1, 0.9)
    ours = memorization_informed_distance(train, fresh, train)
    swapped = _their_mifid(fresh, train)
    yield Claim(
        "MiFID of fresh samples", "mifid", f"{named('torchmetrics')}, sides swapped", apart(ours.value, swapped), 1e-6
    )


def mifid_differences(n: int = 1000, copied: int = 50, d: int = 24) -> Iterator[Difference]:
    """A generator that hands out one training image in twenty, over and over."""
    train = rows(n, d, 0)
    copies = train[torch.arange(n) % copied]
    ours, frechet = memorization_informed_distance(train, copies, train).value, frechet_distance(train, copies)
    given, swapped = _their_mifid(train, copies), _their_mifid(copies, train)
    yield Difference(
        f"MiFID of exact copies of {copied} of {n} training samples (FID {frechet:.4g}): {named('torchmetrics')}",
        f"{ours:.3g}",
        f"{given:.4g}; with the sides swapped {swapped:.3g}",
        "Bai et al. 2021, eq. 2: mean over the generated samples, so copies make it explode",
        ours > 1e6 * frechet and given < 1e3 * frechet,
    )


# Images ---------------------------------------------------------------------------------------------------


def ms_ssim_claims(pictures: list[Any]) -> Iterator[Claim]:
    """One scale, where torchmetrics' map is read inside the ring of mirrored pixels."""
    a, b = _pair(pictures)
    functional = module("torchmetrics.functional.image.ssim")
    _, whole = functional.structural_similarity_index_measure(a, b, data_range=255.0, return_full_image=True)
    ours, theirs = float(ms_ssim(a, b, scales=1)), float(whole[..., 5:-5, 5:-5].mean())
    yield Claim(
        "SSIM, one scale, inside", "ms_ssim", f"{named('torchmetrics')}, its map inside", apart(ours, theirs), 1e-6
    )


def ms_ssim_differences(pictures: list[Any]) -> Iterator[Difference]:
    """The coarsest scale of a 256 px image is 16 px wide: most of it is mirrored border."""
    a, b = _pair(pictures)
    theirs = float(module("torchmetrics.functional.image.ssim").multiscale_structural_similarity_index_measure(
        a, b, data_range=255.0
    ))  # fmt: skip
    ours = float(ms_ssim(a, b))
    yield Difference(
        f"MS-SSIM of two {a.shape[-1]} px images: {named('torchmetrics')}",
        f"{ours:.6f}",
        f"{theirs:.6f}",
        "Wang et al. 2003 take windows that lie inside the image; theirs also reads mirrored pixels",
        abs(ours - theirs) > 1e-4,
    )


def _pair(pictures: list[Any]) -> tuple[Tensor, Tensor]:
    """An image, and the same with a third of another laid over it, float64 [1, 3, H, W]."""
    a, b = (torch.from_numpy(image.transpose(2, 0, 1).copy())[None].double() for image in pictures[:2])
    return a, 0.7 * a + 0.3 * b
