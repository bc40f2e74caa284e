"""The three classifiers that LPIPS listens to, as far as it does: stacks of convolutions, numbered as torchvision's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

# All images are resized to this side, so that rows have one width.
SIDE = 64


@dataclass(frozen=True)
class Stack:
    """A classifier's convolutions, after which of them LPIPS reads, and the record of their weights.

    columns: how many activations of one 64 x 64 image are read.
    """

    build: Callable[[], nn.Sequential]
    taps: tuple[int, ...]
    weights: str
    columns: int


class Fire(nn.Module):
    """Squeeze to few channels, then expand by 1 x 1 and 3 x 3 convolutions side by side (Iandola et al. 2016)."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(narrow), self.expand3x3(narrow)], dim=1).relu()


def alexnet() -> nn.Sequential:
    """Krizhevsky 2014, the one-column form."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for before, after in ((192, 384), (384, 256), (256, 256)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def squeezenet() -> nn.Sequential:
    """SqueezeNet 1.1: pools earlier than Iandola et al. 2016, at 2.4 times less computation."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU()]
    for stage in (
        ((64, 16, 64), (128, 16, 64)),
        ((128, 32, 128), (256, 32, 128)),
        ((256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256)),
    ):
        layers += [nn.MaxPool2d(3, 2, ceil_mode=True), *(Fire(*widths) for widths in stage)]
    return nn.Sequential(*layers)


def vgg16() -> nn.Sequential:
    """Simonyan & Zisserman 2015, configuration D, up to its last convolution."""
    layers: list[nn.Module] = []
    channels = 3
    for block in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        layers += [nn.MaxPool2d(2, 2)] if layers else []
        for wide in block:
            layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU()]
            channels = wide
    return nn.Sequential(*layers)


STACKS: Mapping[str, Stack] = MappingProxyType(
    {
        "alex": Stack(alexnet, (1, 4, 7, 9, 11), "alexnet", 31_872),
        "squeeze": Stack(squeezenet, (1, 4, 7, 9, 10, 11, 12), "squeezenet1_1", 118_976),
        "vgg": Stack(vgg16, (3, 8, 15, 22, 29), "vgg16", 499_712),
    }
)
