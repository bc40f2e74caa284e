"""Judge by likelihood: how surprising each byte of a text is, against how surprising real texts are.

Statistics of the per-byte log-likelihood under `prose_lm` (Gehrmann et al. 2019; DetectGPT and Fast-DetectGPT's
curvature, Bao et al. 2024, eq. 3; log-rank and their ratio, Su et al. 2023) and a calibrated logistic regression on
them. The length of a text is not among them: it tells data sets apart, not authors.

Real examples that the language model was itself trained on (embedded:prose/train) are less surprising than any other
real text, and a judge fitted on them calls other real texts fake: fit it on a split the model has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from evalkit.extractors.identity import identity
from evalkit.extractors.prose_lm import ProseLM, TokenStatistics
from evalkit.types import SampleSet

from ._fit import collect, rows_of
from ._judge import LinearJudge
from ._token_rows import LEAST_CHARACTERS

if TYPE_CHECKING:
    from evalkit.types import Media

C = 0.3
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
COLUMNS = 10 + len(QUANTILES)


class Likelihood(LinearJudge):
    """Logistic regression on statistics of the per-byte log-likelihood of a text under prose_lm."""

    name = "likelihood"
    modality: ClassVar[Literal["text"]] = "text"
    least_characters: ClassVar[int] = LEAST_CHARACTERS
    columns = COLUMNS
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"columns": COLUMNS, "quantiles": QUANTILES, "C": C})

    def __init__(self) -> None:
        super().__init__()
        self._lm = ProseLM()

    @property
    def recipe(self) -> str:
        return identity(self.name, self.version, {**self.settings, "lm": self._lm.digest})

    def prepare(self, sample: Media) -> Tensor:
        """UTF-8 bytes as int16 [T], as prose_lm reads them."""
        return self._lm.prepare(sample)

    def to(self, device: str) -> None:
        self._lm.to(device)
        super().to(device)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        self._fitted()
        return self._p_fake(self._statistics(batch))

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Learn from at least ten samples a side; the seed shuffles the folds of the calibration."""
        data = collect(self.name, self.modality, self.prepare, real, fake)
        self.to(device)
        rows = rows_of(self._statistics, data.prepared, device)
        self._learn_linear(rows, data.is_fake, C, seed, data.words)

    @torch.no_grad()
    def _statistics(self, batch: Tensor) -> Tensor:
        return likelihood_statistics(self._lm.token_statistics(batch))


def likelihood_statistics(tokens: TokenStatistics) -> Tensor:
    """Fifteen numbers a text, float32 [B, 15], none of which depends on the padding.

    Mean and deviation of the nats; mean log-rank; mean entropy; deviation of the entropy; curvature (nats minus
    entropy, over the root of the summed variance, by the root of the length); log-rank over nats; share of bytes ranked
    first; correlation of neighbouring nats; mean step between neighbours; quantiles of the nats.
    """
    nats, mask = tokens.nats, tokens.mask
    mean, deviation = _moments(nats, mask)
    mean_entropy, deviation_entropy = _moments(tokens.entropy, mask)
    (mean_rank, _), (variance, _) = _moments(tokens.log_rank, mask), _moments(tokens.variance, mask)
    pairs = mask[:, 1:] * mask[:, :-1]
    centred = (nats - mean[:, None]) * mask
    product, _ = _moments(centred[:, 1:] * centred[:, :-1], pairs)
    step, _ = _moments((nats[:, 1:] - nats[:, :-1]).abs(), pairs)
    first, _ = _moments((tokens.log_rank == 0).float(), mask)
    columns = [
        mean,
        deviation,
        mean_rank,
        mean_entropy,
        deviation_entropy,
        (mean - mean_entropy) / variance.clamp_min(1e-6).sqrt(),
        mean_rank / mean.clamp_min(1e-6),
        first,
        product / deviation.square().clamp_min(1e-6),
        step,
        *_quantiles(nats, mask),
    ]
    return torch.stack(columns, dim=1)


def _moments(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation over the masked columns, [B] each; zero where the mask is empty."""
    count = mask.sum(1).clamp_min(1)
    mean = (values * mask).sum(1) / count
    return mean, (((values - mean[:, None]) * mask).square().sum(1) / count).sqrt()


def _quantiles(nats: Tensor, mask: Tensor) -> list[Tensor]:
    """The nats at each quantile, linearly between the two nearest bytes; [B] each."""
    # Padding sorts to the end, behind every position that is asked for.
    ordered = nats.masked_fill(mask == 0, torch.inf).sort(1).values
    last = mask.sum(1) - 1
    columns = []
    for q in QUANTILES:
        position = q * last
        low, high = position.floor().long(), position.ceil().long()
        share = position - low
        pair = ordered.gather(1, torch.stack([low, high], dim=1))
        columns.append(pair[:, 0] * (1 - share) + pair[:, 1] * share)
    return columns
