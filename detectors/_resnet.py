"""Residual networks (He et al. 2016) with torchvision's names of weights, without torchvision.

Published detectors are ResNets with something cut off or changed; the parts are here to be put together by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, figure 5 left); `expansion` 1."""

    expansion = 1

    def __init__(self, channels_in: int, width: int, stride: int = 1, *, kernel: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, kernel, 1, kernel // 2, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        short = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        summed: Tensor = self.relu(out + short)
        return summed


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 beside a shortcut, the stride at the 3x3 (torchvision's "v1.5"); `expansion` 4."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, stride: int = 1, *, kernel: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel, stride, kernel // 2, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels_in, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        short = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(out)))))
        summed: Tensor = self.relu(out + short)
        return summed


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))


class ResNet(nn.Module):
    """Log-odds [B] from images [B, C, H, W]: stem, stages `layer1`, `layer2`, ..., mean over places, `fc`.

    blocks: how many in each stage, at most four. stem: (kernel, stride) of the first convolution. pool: whether the
    3x3 max pooling of `pool_stride` follows it. width: channels of the first stage; doubled at each next, which halves
    the side. channels: of the input. Weights have torchvision's names and, at the defaults, its shapes.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: Sequence[int],
        *,
        stem: tuple[int, int] = (7, 2),
        pool: bool = True,
        pool_stride: int = 2,
        width: int = 64,
        channels: int = 3,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        kernel, stride = stem
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, pool_stride, 1) if pool else nn.Identity()
        self.stages = len(blocks)
        have = width
        for stage, count in enumerate(blocks):
            wide, steps = width * 2**stage, [1 if stage == 0 else 2] + [1] * (count - 1)
            made = []
            for step in steps:
                made.append(block(have, wide, step))
                have = wide * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
        self.fc = nn.Linear(have, outputs)

    def features(self, x: Tensor) -> Tensor:
        """The map before pooling, [B, C, h, w]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(self.features(x).mean(dim=(2, 3)))
        return found.squeeze(1) if found.shape[1] == 1 else found


def resnet18(**changes: object) -> ResNet:
    """ResNet-18: 11.2 million weights."""
    return ResNet(BasicBlock, (2, 2, 2, 2), **changes)  # type: ignore[arg-type]


def resnet50(**changes: object) -> ResNet:
    """ResNet-50: 23.5 million weights."""
    return ResNet(Bottleneck, (3, 4, 6, 3), **changes)  # type: ignore[arg-type]


def initialise(network: nn.Module) -> None:
    """He et al. 2015 initial weights of every convolution (fan out), as torchvision draws them."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
