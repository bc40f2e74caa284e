"""Which digit an image shows, and how sure a small trained classifier is: the domain network for handwritten digits.

Row = 32 features of the layer before the last, then 10 logits. The logits are calibrated (temperature, Guo et al.
2017), because the inception score and the mean confidence read their softmax as probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from ..weights import SHIPPED, load_weights
from .area import area_average, image_of
from .identity import identity

if TYPE_CHECKING:
    from ..types import Media

SIDE = 8
FEATURES, CLASSES = 32, 10


class DigitsCNN(nn.Module):
    """Features [B, 32] and logits [B, 10] of grey images [B, 1, 8, 8] in [0, 1]."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, 48, 3, padding=1),
            nn.ReLU(),
        )
        self.features = nn.Linear(48 * (SIDE // 2) ** 2, FEATURES)
        self.head = nn.Linear(FEATURES, CLASSES)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.dropout(self.convs(images).flatten(1))
        features = torch.relu(self.features(hidden))
        return features, self.head(self.dropout(features))


class DigitsNet:
    """Features and calibrated class scores of a small classifier of handwritten digits: 32 + 10 columns."""

    name = "digits_net"
    modality: Literal["image"] = "image"
    version = 1

    def __init__(self) -> None:
        # Built on meta, so that no first weights are drawn from the caller's random stream.
        with torch.device("meta"):
            self._model = DigitsCNN()
        self._model.load_state_dict(load_weights(SHIPPED[self.name]), assign=True)
        self._model.eval().requires_grad_(False)

    @property
    def digest(self) -> str:
        settings = {"weights": SHIPPED[self.name].sha256, "side": SIDE, "resize": "area", "grey": "mean of RGB"}
        return identity(self.name, self.version, settings)

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"features": slice(0, FEATURES), "logits": slice(FEATURES, FEATURES + CLASSES)})

    def prepare(self, sample: Media) -> Tensor:
        """float32 [1, 8, 8] grey in [0, 1]; other sizes are area-averaged to 8 x 8."""
        # The mean of the three channels leaves a grey image exactly as it is.
        grey = area_average(image_of(sample, self.name), SIDE).mean(axis=2)
        return torch.from_numpy(grey)[None] / 255

    def to(self, device: str) -> None:
        self._model.to(device)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, 42]: features, then logits."""
        return torch.cat(self._model(batch.float()), dim=1)
