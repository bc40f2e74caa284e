"""Judge by a probe on the features of a network that was never taught real from fake.

Features that know nothing of a generator carry over to the next one, where a network trained on one generator learns
what betrays that one (Ojha et al. 2023, section 4). Their recipe is here: CLIP ViT-L/14 of OpenAI, its image embedding
un-normalised under a linear probe; or the nearest neighbours in cosine distance (section 4.2, figure 4), each side by
its five nearest samples, the difference of the two means being the score. The bank of the neighbours is kept with the
detector, at most 5,000 a side, drawn by the seed.

Where it differs: images are brought to the network's size as `clip` does it (shorter side to 224, centre), and not cut
to 224 without resizing; nothing is blurred or compressed in training; the linear probe is a logistic regression in
closed batches, regularised and calibrated, and not stochastic descent.

Any network of images that evalkit knows can stand in: `clip_probe:random_conv` needs no weights,
`clip_probe:knn:dinov2` asks neighbours in the space of DINOv2. The name says which was used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from evalkit.errors import BadRecord, BadSetting, UnknownName
from evalkit.extractors import BUILTIN
from evalkit.extractors.identity import identity
from evalkit.types import Extractor, SampleSet

from ._calibrate import FOLDS, platt
from ._fit import collect, folds, rows_of
from ._judge import Judge
from ._linear import linear_tensors

if TYPE_CHECKING:
    from evalkit.types import Media

BACKBONE = "clip:ViT-L-14"
NEIGHBOURS = 5
MOST = 5_000
C = 0.03


class ClipProbe(Judge):
    """Linear or nearest-neighbour probe on features of CLIP ViT-L/14, or of any other network of images."""

    name: str = "clip_probe"  # type: ignore[misc]  # A variant has a name of its own.
    modality: ClassVar[Literal["image"]] = "image"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"neighbours": NEIGHBOURS, "most": MOST, "C": C})

    def __init__(self, variant: str = "") -> None:
        """variant: `knn`, a name of an extractor of images, or both as `knn:NAME`; UnknownName, BadSetting."""
        super().__init__()
        first, _, rest = variant.partition(":")
        self._knn = first == "knn"
        backbone = (rest if self._knn else variant) or BACKBONE
        if variant:
            self.name = f"{self.name}:{variant}"
        self._backbone = _extractor(backbone, self.name)
        self._features = self._backbone.heads.get("features")
        if self._features is None:
            raise BadSetting(f"{self.name}: {backbone} gives no features; name a network that does, such as dinov2")

    @property
    def recipe(self) -> str:
        """The digest of probe, settings and the name of the network; its weights are in the digest after fitting."""
        terms = {**self.settings, "knn": self._knn, "backbone": self._backbone.name}
        return identity("clip_probe", self.version, terms)

    @property
    def about(self) -> Mapping[str, str]:
        """What the network does, in its own words."""
        return MappingProxyType(dict(getattr(self._backbone, "about", {})))

    def to(self, device: str) -> None:
        super().to(device)
        self._backbone.to(device)

    def prepare(self, sample: Media) -> Tensor:
        """What the network takes; RunFailed before `fit`, or when the network's weights cannot be had."""
        self._fitted()
        prepared = self._backbone.prepare(sample)
        # Checked here, because weights that nobody pinned are known once they are fetched.
        if self._backbone.digest != self._facts["backbone"]:
            raise BadRecord(f"detector {self.name!r} was fitted on other weights or another version; train it again")
        return prepared

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        t, rows = self._fitted(), self._rows(batch)
        if self._knn:
            score = nearer_fake(rows, t["real_bank"], t["fake_bank"])
            return torch.sigmoid(score * t["calibration"][0] + t["calibration"][1])[:, None]
        log_odds = ((rows - t["mean"]) / t["scale"]) @ t["coefficients"] + t["intercept"]
        return torch.sigmoid(log_odds)[:, None]

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Learn from at least ten samples a side; the seed shuffles folds and draws the bank.

        Raises RunFailed, one line, when the weights of the network are neither here nor to be had.
        """
        data = collect(self.name, self.modality, self._backbone.prepare, real, fake)
        self._backbone.to(device)
        with torch.no_grad():
            rows = rows_of(self._rows, data.prepared, device).float()
        tensors = knn_tensors(rows, data.is_fake, seed) if self._knn else linear_tensors(rows, data.is_fake, C, seed)
        self.to(device)
        self._learn(tensors, {"seed": seed, "backbone": self._backbone.digest}, data.words)

    def _rows(self, batch: Tensor) -> Tensor:
        """Features [B, D]; of length 1 where neighbours are asked."""
        rows = self._backbone(batch)[:, self._features]
        return F.normalize(rows, dim=1) if self._knn else rows

    def _ready(self) -> None:
        assert self._features is not None
        width, t = self._features.stop - self._features.start, self._tensors
        if self._knn:
            right = all(t[k].dim() == 2 and t[k].shape[1] == width and len(t[k]) for k in ("real_bank", "fake_bank"))
            right = right and t["calibration"].shape == (2,)
        else:
            right = all(t[key].shape == (width,) for key in ("mean", "scale", "coefficients"))
            right = right and t["intercept"].shape == (1,)
        if not right or not isinstance(self._facts["backbone"], str):
            raise ValueError("the tensors are not those of a probe on this network")


def nearer_fake(rows: Tensor, real_bank: Tensor, fake_bank: Tensor) -> Tensor:
    """Mean cosine similarity to the five nearest fakes less that to the five nearest reals, in -2..2, [B].

    rows [B, D], real_bank [N, D], fake_bank [M, D], all of length 1; a bank under five counts with all it has.
    """
    near = [
        (rows @ bank.T).topk(min(NEIGHBOURS, len(bank)), dim=1).values.mean(dim=1) for bank in (real_bank, fake_bank)
    ]
    return near[1] - near[0]


def knn_tensors(rows: Tensor, is_fake: npt.NDArray[np.int64], seed: int) -> dict[str, Tensor]:
    """`real_bank`, `fake_bank` and `calibration` [2] of rows [N, D] of length 1.

    The calibration is learnt on five folds, each asked of a bank without it: a sample is its own nearest neighbour.
    """
    kept = np.concatenate([_drawn(np.flatnonzero(is_fake == side), seed) for side in (0, 1)])
    rows, is_fake = rows[torch.from_numpy(kept)], is_fake[kept]
    fold = folds(is_fake, FOLDS, seed)
    unseen = np.zeros(len(is_fake))
    for k in range(FOLDS):
        banks = [rows[torch.from_numpy((fold != k) & (is_fake == side))] for side in (0, 1)]
        unseen[fold == k] = nearer_fake(rows[torch.from_numpy(fold == k)], banks[0], banks[1]).double().numpy()
    found = platt(unseen, is_fake)
    real, fake = (rows[torch.from_numpy(is_fake == side)].contiguous() for side in (0, 1))
    return {"real_bank": real, "fake_bank": fake, "calibration": torch.tensor([found.slope, found.offset]).float()}


def _drawn(where: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """At most 5,000 of these positions, in their order."""
    if len(where) <= MOST:
        return where
    return np.sort(np.random.RandomState(seed).choice(where, MOST, replace=False))


def _extractor(name: str, probe: str) -> Extractor:
    """An extractor of images by its name, with its variant where it has one."""
    stem, _, variant = name.partition(":")
    if stem not in BUILTIN:
        raise UnknownName(f"network of {probe}", name, sorted(BUILTIN))
    module, _, attribute = BUILTIN[stem].partition(":")
    make: Any = getattr(importlib.import_module(module), attribute)
    try:
        found: Extractor = make(variant) if variant else make()
    except TypeError as error:
        raise BadSetting(f"{probe}: the network {stem!r} has no variants; write {stem!r} for {name!r}") from error
    if found.modality != "image":
        raise BadSetting(f"{probe}: {name!r} reads {found.modality}s; a probe needs a network of images")
    return found
