"""Attribute by features: multinomial logistic regression, and a distance that says when an image is of no source.

Rows are 108 statistics of an image (the radial spectrum, autocorrelation and grid peaks of `spectrum`, and the
co-occurrences and moments of `residual`), or the features of an extractor: `source_probe:random_conv`,
`source_probe:clip:ViT-L-14`. Columns are standardised; P(source) is at even prior odds: each source weighs the same,
however many images it has.

A regression divides the whole space among the sources it knows and is sure far away from all of them, so its
probabilities cannot tell that an image is of none. How unusual an image is of a source is its Mahalanobis distance to
the mean of that source, under one covariance within sources (Lee et al. 2018, section 2.1), shrunk towards a multiple
of the identity (Ledoit & Wolf 2004), because columns are many and images few.

The extractor decides what can be told apart: CLIP reads content as much as traces, and two sources of other subjects
are then told apart by their subjects.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evalkit.errors import BadSetting, UnknownName
from evalkit.extractors.identity import identity
from evalkit.types import Extractor, SampleSet

from ._fit import rows_of
from ._sources import FOLDS, REJECTED, Array, Attributing, gather
from .residual import _choose_steps, _planes, _row
from .spectrum import Spectrum

if TYPE_CHECKING:
    from evalkit.types import Media

C = 0.1
SMALLEST = 8
TOLD = 3


class SourceProbe(Attributing):
    """Attributor: logistic regression on image statistics or an extractor's features; knows when no source fits."""

    name: str = "source_probe"  # type: ignore[misc]  # A variant has a name of its own.
    modality: ClassVar[Literal["image"]] = "image"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"C": C, "covariance": "Ledoit-Wolf", "smallest": SMALLEST, "rejected": REJECTED}
    )

    def __init__(self, variant: str = "") -> None:
        """variant: an extractor of images, such as `random_conv` or `clip:ViT-L-14`; none: image statistics.

        Raises UnknownName for an extractor there is not, BadSetting for one that does not read images.
        """
        super().__init__()
        self._extractor = extractor_named(variant) if variant else None
        self.name = f"source_probe:{variant}" if variant else "source_probe"

    @cached_property
    def recipe(self) -> str:
        """The digest of settings, version and the instruments that read the image."""
        reads = [Spectrum().recipe] if self._extractor is None else [self._extractor.digest]
        return identity(self.name, self.version, {**self.settings, "reads": reads})

    def prepare(self, sample: Media) -> Tensor:
        """float32 [108], or what the extractor prepares; UnreadableSample when a side is under 8 pixels."""
        if self._extractor is not None:
            return self._extractor.prepare(sample)
        self._fitted()
        return _statistics(sample, self._facts["steps"])

    def to(self, device: str) -> None:
        super().to(device)
        if self._extractor is not None:
            self._extractor.to(device)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        self._fitted()
        rows = self._features(batch).cpu().double()
        return self._rows(*(torch.from_numpy(part) for part in self._model.judged(rows.numpy())))

    def fit_sources(self, sources: Mapping[str, SampleSet], *, seed: int, device: str = "cpu") -> None:
        """Learn from two or more sources of at least 20 images; the seed deals the five parts of the calibration."""
        self.to(device)
        # Looked at as it will be read, so that what is too small for an extractor is left out too.
        look = _planes if self._extractor is None else self._extractor.prepare
        gathered = gather(self.name, sources, look, seed)
        steps: list[float] = []
        if self._extractor is None:
            steps = [float(v) for v in np.mean([_choose_steps(samples) for samples in sources.values()], axis=0)]
            prepared = [row for _, row in gathered.prepared(lambda sample: _statistics(sample, steps))]
        else:
            prepared = [tensor for _, tensor in gathered.prepared(self._extractor.prepare)]
        X = rows_of(self._features, prepared, device).double().numpy()
        k = len(gathered.names)
        scores, usual = np.empty((len(X), k)), np.empty((len(X), k))
        for part in range(FOLDS):
            aside = gathered.fold == part
            model = _Model.fitted(X[~aside], gathered.truth[~aside], k)
            scores[aside], usual[aside] = model.judged(X[aside])
        model = _Model.fitted(X, gathered.truth, k)
        evidence = {name: self._in_words(model, i) for i, name in enumerate(gathered.names)}
        facts = {"seed": seed, "steps": steps, "columns": X.shape[1], "evidence": evidence}
        self._learn_sources(model.tensors(), facts, gathered, scores, usual)

    def _features(self, batch: Tensor) -> Tensor:
        if self._extractor is None:
            return batch
        rows = self._extractor(batch)
        return rows[:, self._extractor.heads.get("features", slice(None))]

    def _in_words(self, model: _Model, source: int) -> str:
        """The columns that speak most for a source, by coefficient times how far its mean lies off, in deviations."""
        pull = model.coefficients[source] * model.means[source]
        said = [f"{_column(int(j), self.name)} {model.means[source, j]:+.1f}" for j in np.argsort(-pull)[:TOLD]]
        return "standard deviations off the mean of all sources: " + ", ".join(said)

    def _ready(self) -> None:
        super()._ready()
        self._model = _Model.of(self._tensors, len(self.sources), int(self._facts["columns"]))


class _Model:
    """A regression and a distance on standardised columns: everything float64."""

    def __init__(self, parts: Mapping[str, Array]) -> None:
        self.parts = parts
        self.coefficients, self.means, self.whiten = parts["coefficients"], parts["means"], parts["whiten"]

    @classmethod
    def fitted(cls, X: Array, truth: npt.NDArray[np.int64], k: int) -> _Model:
        """Fit on rows [N, D] of sources 0..k-1."""
        from sklearn.covariance import ledoit_wolf
        from sklearn.linear_model import LogisticRegression

        mean, scale = X.mean(0), X.std(0)
        # A column that never varies says nothing: divided by 1 it stays at zero.
        scale[scale < 1e-9] = 1.0
        Z = (X - mean) / scale
        model = LogisticRegression(C=C, class_weight="balanced", max_iter=2000).fit(Z, truth)
        # Of two sources scikit-learn keeps one line; half to each side gives the same probabilities.
        coefficients, intercept = model.coef_, model.intercept_
        if k == 2:
            coefficients, intercept = (
                np.concatenate([-coefficients, coefficients]) / 2,
                np.array([-1, 1]) * intercept / 2,
            )
        means = np.stack([Z[truth == i].mean(0) for i in range(k)])
        covariance, _ = ledoit_wolf(Z - means[truth], assume_centered=True)
        values, vectors = np.linalg.eigh(covariance)
        # Columns that never vary within a source leave zeros, and any departure along them would be infinite.
        whiten = vectors / np.sqrt(np.maximum(values, 1e-6 * values.max()))
        parts = {"mean": mean, "scale": scale, "coefficients": coefficients, "intercept": intercept}
        return cls({**parts, "means": means, "whiten": whiten})

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], k: int, columns: int) -> _Model:
        """From saved tensors; ValueError when a shape is not of k sources and so many columns."""
        shapes = {
            "mean": (columns,),
            "scale": (columns,),
            "coefficients": (k, columns),
            "intercept": (k,),
            "means": (k, columns),
            "whiten": (columns, columns),
        }
        if wrong := [key for key, shape in shapes.items() if tuple(tensors[key].shape) != shape]:
            raise ValueError(f"{wrong[0]} has shape {tuple(tensors[wrong[0]].shape)}, expected {shapes[wrong[0]]}")
        return cls({key: tensors[key].double().cpu().numpy() for key in shapes})

    def tensors(self) -> dict[str, Tensor]:
        return {key: torch.from_numpy(np.ascontiguousarray(part)) for key, part in self.parts.items()}

    def judged(self, X: Array) -> tuple[Array, Array]:
        """P(source) and minus the squared Mahalanobis distance, both [N, k], of rows [N, D]."""
        Z = (X - self.parts["mean"]) / self.parts["scale"]
        logits = Z @ self.coefficients.T + self.parts["intercept"]
        odds = np.exp(logits - logits.max(1, keepdims=True))
        white, centres = Z @ self.whiten, self.means @ self.whiten
        away = (white**2).sum(1)[:, None] - 2 * white @ centres.T + (centres**2).sum(1)
        return odds / odds.sum(1, keepdims=True), -away


def extractor_named(name: str) -> Extractor:
    """An extractor of images of this house by its name, with a variant after the first colon."""
    table = importlib.import_module("evalkit.extractors").BUILTIN
    stem, _, variant = name.partition(":")
    if stem not in table:
        raise UnknownName("extractor", stem, table)
    module, _, attribute = table[stem].partition(":")
    made: Any = getattr(importlib.import_module(module), attribute)
    found: Extractor = made(variant) if variant else made()
    if found.modality != "image":
        raise BadSetting(f"the extractor {name!r} reads {found.modality}s; give one of images, such as random_conv")
    return found


def _statistics(sample: Media, steps: list[float]) -> Tensor:
    planes = _planes(sample)
    return torch.cat([Spectrum().prepare(sample), _row(planes, steps)])


def _column(j: int, name: str) -> str:
    """A column in words."""
    if name != "source_probe":
        return f"column {j} of {name.partition(':')[2]}"
    parts = ((24, "power in ring"), (9, "autocorrelation at lag"), (3, "grid peak"), (45, "co-occurrence"))
    for width, words in (*parts, (24, "residual moment"), (3, "colour agreement")):
        if j < width:
            return f"{words} {j + 1}"
        j -= width
    return f"column {j}"
