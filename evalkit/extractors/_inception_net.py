"""The Inception network of 2015-12-05, on which the field's FID, KID and inception score are defined.

It is GoogLeNet v3 (Szegedy et al. 2016) as TensorFlow shipped it, not torchvision's: its average pools divide by the
pixels there are and not by nine at the border, its last block pools by maximum where the paper averages, its batch norm
adds 1e-3, and it knows 1008 classes. Scores from torchvision's weights are other numbers (FID 53.7 for 13.7).

Names are those of the torch port, the block names of torchvision: Mixed_6d is `mixed_6` in TensorFlow's graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299
CLASSES = 1008
EPSILON = 1e-3
# What a row may hold, and how many columns that is. "pool3" is the row of the default instrument.
WIDTHS = {"64": 64, "192": 192, "768": 768, "spatial": 7 * 17 * 17, "logits": CLASSES, "pool3": 2048 + CLASSES}


class Conv(nn.Conv2d):
    """A convolution with its batch norm folded in, then ReLU."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu_(super().forward(input))


class BlockA(nn.Module):
    """35 x 35: branches 1x1, 5x5, two 3x3, pool."""

    def __init__(self, width: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(width, 64, 1)
        self.branch5x5_1 = Conv(width, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(width, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(width, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average(x))], dim=1)


class BlockB(nn.Module):
    """35 x 35 -> 17 x 17."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(width, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(width, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], dim=1)


class BlockC(nn.Module):
    """17 x 17: a 7x7 convolution as 1x7 then 7x1, once and twice."""

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(width, 192, 1)
        self.branch7x7_1 = Conv(width, narrow, 1)
        self.branch7x7_2 = Conv(narrow, narrow, (1, 7), padding=(0, 3))
        self.branch7x7_3 = Conv(narrow, 192, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = Conv(width, narrow, 1)
        self.branch7x7dbl_2 = Conv(narrow, narrow, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = Conv(narrow, narrow, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = Conv(narrow, narrow, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = Conv(narrow, 192, (1, 7), padding=(0, 3))
        self.branch_pool = Conv(width, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], dim=1)


class BlockD(nn.Module):
    """17 x 17 -> 8 x 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(width, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(width, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], dim=1)


class BlockE(nn.Module):
    """8 x 8: branches that end in 1x3 beside 3x1. The graph pools the last one by maximum, the paper does not."""

    def __init__(self, width: int, *, by_maximum: bool) -> None:
        super().__init__()
        self.by_maximum = by_maximum
        self.branch1x1 = Conv(width, 320, 1)
        self.branch3x3_1 = Conv(width, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Conv(width, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Conv(width, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.by_maximum else _average(x)
        wide = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        wide += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *wide, self.branch_pool(pooled)], dim=1)


class InceptionNet(nn.Module):
    """Rows of one layer of the graph for images in [-1, 1], float32 [B, 3, 299, 299]; it runs no further than that."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b = BlockA(192, pooled=32)
        self.Mixed_5c = BlockA(256, pooled=64)
        self.Mixed_5d = BlockA(288, pooled=64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, narrow=128)
        self.Mixed_6c = BlockC(768, narrow=160)
        self.Mixed_6d = BlockC(768, narrow=160)
        self.Mixed_6e = BlockC(768, narrow=192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, by_maximum=False)
        self.Mixed_7c = BlockE(2048, by_maximum=True)
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        x = F.max_pool2d(x, 3, stride=2)
        if self.layer == "64":
            return x.mean(dim=(2, 3))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        if self.layer == "192":
            return x.mean(dim=(2, 3))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6c(self.Mixed_6b(x))
        if self.layer == "spatial":
            # The sFID of guided-diffusion's evaluator: `mixed_6/conv:0`, the 1x1 branch of Mixed_6d after its ReLU, its
            # first 7 channels, rows then columns then channels, without which the published statistics do not fit.
            first: Tensor = self.Mixed_6d.branch1x1(x)[:, :7]
            return first.permute(0, 2, 3, 1).flatten(1)
        x = self.Mixed_6e(self.Mixed_6d(x))
        if self.layer == "768":
            return x.mean(dim=(2, 3))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        features = x.mean(dim=(2, 3))
        # Without the bias: what the graph's `softmax/logits/MatMul` gives and the inception score was defined on.
        unbiased = F.linear(features, self.fc.weight)
        if self.layer == "logits":
            return unbiased + self.fc.bias
        return torch.cat([features, unbiased], dim=1)


def _average(x: Tensor) -> Tensor:
    """3 x 3 mean over the pixels there are: TensorFlow's pools leave the padding out of the count."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def network(port: Mapping[str, Tensor], layer: str) -> InceptionNet:
    """The network for inference with the torch port's tensors: batch norm folded, channels last, no gradient.

    Raises ValueError, naming the tensor, when one is missing or of another shape.
    """
    with torch.device("meta"):
        net = InceptionNet(layer)
    net.load_state_dict(fold(port, net), assign=True)
    # Channels last is what makes it fast on a CPU: folding alone gains nothing.
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def fold(port: Mapping[str, Tensor], net: InceptionNet) -> dict[str, Tensor]:
    """Weight and bias of each layer of `net`, float32, from the port's convolutions and batch norms.

    In float64 and then cast. It costs no accuracy: on random weights the class scores lie 4e-7 of the largest from the
    float64 network's, and 5e-7 with batch norm as a step of its own.
    """
    folded: dict[str, Tensor] = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            folded[f"{name}.weight"] = _tensor(port, f"{name}.weight", module.weight.shape).float().contiguous()
            folded[f"{name}.bias"] = _tensor(port, f"{name}.bias", module.weight.shape[:1]).float()
        elif isinstance(module, Conv):
            channels = module.weight.shape[:1]
            weight = _tensor(port, f"{name}.conv.weight", module.weight.shape).double()
            mean, variance, beta = (
                _tensor(port, f"{name}.bn.{part}", channels).double()
                for part in ("running_mean", "running_var", "bias")
            )
            # The layouts that leave gamma out mean 1.
            gamma = port.get(f"{name}.bn.weight", torch.ones(channels)).double()
            scale = gamma / (variance + EPSILON).sqrt()
            # Contiguous, or the strides of a layout would choose the kernel and move the last bits of a row.
            folded[f"{name}.weight"] = (weight * scale[:, None, None, None]).float().contiguous()
            folded[f"{name}.bias"] = (beta - mean * scale).float()
    return folded


def _tensor(port: Mapping[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    if name not in port:
        raise ValueError(f"{name} is missing")
    if port[name].shape != shape:
        raise ValueError(f"{name} is {list(port[name].shape)}, expected {list(shape)}")
    return port[name]


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Convolutions and products in whole float32 on a GPU: TF32, torch's default there, keeps 10 bits of 23."""
    if device.type != "cuda":
        yield
        return
    # Before torch 2.9 a switch for both; since then a precision for each, and no mixing of the two.
    recent = getattr(torch.backends.cudnn, "conv", None)
    knob = "fp32_precision" if recent else "allow_tf32"
    places = [recent or torch.backends.cudnn, torch.backends.cuda.matmul]
    before = [getattr(place, knob) for place in places]
    for place in places:
        setattr(place, knob, "ieee" if recent else False)
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            setattr(place, knob, value)
