"""Judge by the course of surprise through a text: boosted trees on how a language model expected each of its tokens.

Machines write with less surprise, and with less change of it: beside mean log-probability, rank and entropy the trees
read moments, quantiles and autocorrelations of the surprisals, and of their first and second differences (the kind of
statistics of DivEye, 2025; re-derived). The number of tokens is not among them, and sums are divided by it: length
tells data sets apart, not authors.

`surprisal_gbdt[:MODEL]`: prose_lm where none is named, else `hf_lm:FOLDER` or `llama2c:FOLDER`. Real texts that the
model was trained on surprise it less than any others: fit on texts it has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from evalkit.errors import BadSetting
from evalkit.extractors.causal.columns import SURPRISAL
from evalkit.extractors.causal.instrument import packed, unpacked
from evalkit.extractors.identity import identity
from evalkit.types import SampleSet

from ._calibrate import FOLDS, platt
from ._fit import TrainingSet, collect, folds
from ._judge import Judge
from ._token_rows import DEFAULT, LEAST_CHARACTERS, Columns, Reader, batches, reader_of, text_of
from ._trees import KEYS, SETTINGS, boosted, check, log_odds
from .zero_shot import LEAST_LOG_RANK, LEAST_VARIANCE

if TYPE_CHECKING:
    from evalkit.types import Media

# Over the number of tokens. mu is minus the entropy, and the mean surprisal minus the mean ln p.
PER_TOKEN = ("log_p", "log_rank", "entropy", "variance", "top_10", "top_100", "top_1000")
SHAPE = tuple(name for name in SURPRISAL if name != "mean")
COLUMNS = (*PER_TOKEN, "lrr", "curvature", *SHAPE)


class SurprisalGBDT(Judge):
    """Gradient-boosted trees on the surprisals of a text under a language model (`surprisal_gbdt:hf_lm:FOLDER`)."""

    name = "surprisal_gbdt"
    modality: ClassVar[Literal["text"]] = "text"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"columns": COLUMNS, **SETTINGS})
    least_characters: ClassVar[int] = LEAST_CHARACTERS

    def __init__(self, variant: str = "", *, reader: Reader | None = None) -> None:
        """variant: a language model; reader: in its place. UnknownName, or BadSetting for a pair of models."""
        super().__init__()
        if variant:
            vars(self).update(name=f"{self.name}:{variant}")
        self._reader = reader or reader_of(variant or DEFAULT)
        if self._reader.pair:
            raise BadSetting(f"{self.name}: surprisals are of one model; {self._reader.name} is a pair")

    @property
    def recipe(self) -> str:
        return identity("surprisal_gbdt", self.version, {**self.settings, "lm": self._reader.digest})

    @property
    def about(self) -> Mapping[str, str]:
        return self._reader.about

    def prepare(self, sample: Media) -> Tensor:
        """int64 [m]: the text as the language model reads it."""
        return self._reader.prepare(text_of(sample, self.name))

    def arrange(self, prepared: Sequence[Tensor]) -> Tensor:
        """One batch, int64 [1 + B + sum of lengths]: B, the B lengths, and the texts one after the other."""
        return packed(prepared)

    def to(self, device: str) -> None:
        """The language model to the device; trees are walked on the CPU."""
        self._reader.to(device)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        t = self._fitted()
        raw = log_odds(t, self._rows(batch))
        return torch.sigmoid(raw * t["calibration"][0] + t["calibration"][1])[:, None].float()

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Learn from at least ten samples a side; the seed sets folds and trees."""
        data = collect(self.name, self.modality, self.prepare, real, fake)
        self.to(device)
        with torch.no_grad():
            rows = torch.cat([self._rows(batch) for batch in batches(data.prepared, device)])
        found = platt(_unseen(rows, data, seed), data.is_fake)
        tensors = boosted(rows.numpy(), data.is_fake, seed)
        tensors["calibration"] = torch.tensor([found.slope, found.offset], dtype=torch.float64)
        self._learn(tensors, {"seed": seed}, data.words)

    def _rows(self, batch: Tensor) -> Tensor:
        return features(self._reader.columns(unpacked(batch)))

    def _ready(self) -> None:
        check({key: self._tensors[key] for key in KEYS}, len(COLUMNS))
        if self._tensors["calibration"].shape != (2,):
            raise ValueError("calibration is not a slope and an offset")


def features(c: Columns) -> Tensor:
    """The columns COLUMNS of texts, float32 [N, 29], from those of a language model's rows; none grows with length."""
    tokens = c["tokens"]
    curvature = (c["log_p"] - c["mu"]) / (c["variance"].clamp_min(LEAST_VARIANCE) * tokens).sqrt()
    found = [c[name] / tokens for name in PER_TOKEN]
    found += [-c["log_p"] / c["log_rank"].clamp_min(LEAST_LOG_RANK), curvature, *(c[name] for name in SHAPE)]
    return torch.stack(found, dim=1).float()


def _unseen(rows: Tensor, data: TrainingSet, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Log-odds of each sample by trees that were grown without its fold."""
    fold, found = folds(data.is_fake, FOLDS, seed), np.zeros(len(rows))
    for k in range(FOLDS):
        aside = fold == k
        trees = boosted(rows[~aside].numpy(), data.is_fake[~aside], seed)
        found[aside] = log_odds(trees, rows[aside]).numpy()
    return found
