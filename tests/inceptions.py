"""Inception without its published weights: random ones that keep their scale, in each of the three file layouts."""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from evalkit.extractors._inception_files import tensorflow_names
from evalkit.extractors._inception_net import Conv, InceptionNet
from evalkit.weights import Weights


@cache
def shapes():
    """The convolutions and the classifier of the graph, as modules without values."""
    with torch.device("meta"):
        return dict(InceptionNet("pool3").named_modules())


@cache
def random_port(seed=0):
    """The torch port's tensors with He-scaled weights (features neither vanish nor explode) and a busy batch norm."""
    rng = torch.Generator().manual_seed(seed)
    port = {"fc.weight": torch.randn(1008, 2048, generator=rng) / 45, "fc.bias": torch.randn(1008, generator=rng)}
    for name, module in shapes().items():
        if isinstance(module, Conv):
            n, fan_in = module.weight.shape[0], module.weight[0].numel()
            port[f"{name}.conv.weight"] = torch.randn(module.weight.shape, generator=rng) * (2 / fan_in) ** 0.5
            port[f"{name}.bn.weight"] = torch.ones(n)
            port[f"{name}.bn.bias"] = torch.randn(n, generator=rng) * 0.2
            port[f"{name}.bn.running_mean"] = torch.randn(n, generator=rng) * 0.2
            port[f"{name}.bn.running_var"] = torch.rand(n, generator=rng) + 0.5
    return port


def record_of(path: Path):
    """What a weight table would say of a file that lies here."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Weights(file=path.name, sha256=digest, licence="none", trained_on="nothing: random")


def photographs(n, height, width, seed=0):
    """uint8 [H, W, 3] images whose power falls with the square of the frequency, each with colours of its own."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    frequency[0, 0] = 1
    made = []
    for _ in range(n):
        noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(3, height, width))) / frequency).real
        scaled = noise / (noise.std() or 1) * rng.uniform(20, 70) + rng.uniform(40, 215, (3, 1, 1))
        made.append(scaled.clip(0, 255).round().astype(np.uint8).transpose(1, 2, 0))
    return made


def apart(ours, theirs):
    """The largest difference, relative to the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


# NVIDIA's TorchScript -------------------------------------------------------------------------------------


class Layer(nn.Module):
    """A convolution as the script keeps it: weight, beta, mean, var."""

    def __init__(self, name):
        super().__init__()
        ours = {theirs: ours for ours, theirs in tensorflow_names().items()}[name]
        self.stride, self.padding = shapes()[ours].stride, shapes()[ours].padding
        leaves = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}
        for leaf, key in leaves.items():
            self.register_buffer(leaf, random_port()[f"{ours}.{key}"])

    def forward(self, x):
        x = F.conv2d(x, self.weight, None, self.stride, self.padding)
        return F.relu(F.batch_norm(x, self.mean, self.var, None, self.beta, eps=1e-3))


class Towers(nn.Sequential):
    """Children side by side, their channels one after the other."""

    def forward(self, x):
        return torch.cat([child(x) for child in self], dim=1)


class Flat(nn.Module):
    """The last two blocks, whose towers the script keeps flat."""

    def __init__(self, block, pool):
        super().__init__()
        self.pool = pool
        names = ("conv", "tower/conv", "tower/mixed/conv", "tower/mixed/conv_1", "tower_1/conv", "tower_1/conv_1")
        for name in (*names, "tower_1/mixed/conv", "tower_1/mixed/conv_1", "tower_2/conv"):
            self.add_module(name.replace("/", "_"), Layer(f"{block}/{name}"))

    def forward(self, x):
        a, b = self.tower_conv(x), self.tower_1_conv_1(self.tower_1_conv(x))
        wide = [self.tower_mixed_conv(a), self.tower_mixed_conv_1(a)]
        wide += [self.tower_1_mixed_conv(b), self.tower_1_mixed_conv_1(b)]
        return torch.cat([self.conv(x), *wide, self.tower_2_conv(self.pool(x))], dim=1)


class Script(nn.Module):
    """`layers` to the pooled features, `output` to the classes; `last_pool` is what the graph gets wrong on purpose."""

    def __init__(self, last_pool):
        super().__init__()
        mean = nn.AvgPool2d(3, 1, 1, count_include_pad=False)

        def chain(path, n, first=None):
            named = [
                (f"conv_{i}" if i else "conv", Layer(f"{path}/conv_{i}" if i else f"{path}/conv")) for i in range(n)
            ]
            return nn.Sequential(OrderedDict(([("pool", first)] if first else []) + named))

        def block(i):
            at = f"mixed_{i}" if i else "mixed"
            if i in (9, 10):
                return at, Flat(at, last_pool if i == 10 else mean)
            lengths = {3: (3,), 8: (2, 4)}.get(i, (2, 3) if i < 3 else (3, 5))
            towers = [(f"tower_{t}" if t else "tower", chain(f"{at}/tower_{t}" if t else f"{at}/tower", n))
                      for t, n in enumerate(lengths)]  # fmt: skip
            head = [] if i == 8 else [("conv", Layer(f"{at}/conv"))]
            tail = ("pool", nn.MaxPool2d(3, 2)) if i in (3, 8) else ("tower_2", chain(f"{at}/tower_2", 1, mean))
            return at, Towers(OrderedDict([*head, *towers, tail]))

        stem = [("conv", Layer("conv")), ("conv_1", Layer("conv_1")), ("conv_2", Layer("conv_2"))]
        stem += [("pool0", nn.MaxPool2d(3, 2)), ("conv_3", Layer("conv_3")), ("conv_4", Layer("conv_4"))]
        stem += [("pool1", nn.MaxPool2d(3, 2)), *(block(i) for i in range(11)), ("pool2", nn.AvgPool2d(8))]
        self.layers = nn.Sequential(OrderedDict(stem))
        self.output = nn.Linear(2048, 1008)
        self.output.weight.data, self.output.bias.data = random_port()["fc.weight"], random_port()["fc.bias"]

    def forward(self, images):
        return self.output(self.layers((images - 128) / 128).flatten(1))


def write_script(path, last_pool=None):
    """A TorchScript of the random weights with the structure of NVIDIA's."""
    model = Script(last_pool or nn.MaxPool2d(3, 1, 1)).eval().requires_grad_(False)
    torch.jit.trace(model, torch.zeros(1, 3, 299, 299), check_trace=False).save(str(path))
    return path


# TensorFlow's frozen graph --------------------------------------------------------------------------------


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def field(number, value):
    """One field of a protocol-buffer message: a whole number, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def node(name, op, tensor=None):
    value = b"" if tensor is None else field(5, field(1, b"value") + field(2, field(8, tensor)))
    dtype = field(5, field(1, b"dtype") + field(2, field(6, 1)))
    return field(1, field(1, name.encode()) + field(2, op.encode()) + dtype + value)


def tensor_proto(shape, content=None, listed=None):
    """A float32 TensorProto, its values as raw content or listed one by one."""
    values = (
        field(4, content) if listed is None else b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in listed)
    )
    return field(1, 1) + field(2, b"".join(field(2, field(1, n)) for n in shape)) + values


def write_graph(path, port, leave_out=()):
    """A frozen graph of the port's tensors, among nodes that are none: an input, a convolution, text, whole numbers."""
    text = field(1, 7) + field(2, b"") + field(8, b"jpeg")
    whole = field(1, 3) + field(2, field(2, field(1, 2))) + field(4, struct.pack("<ii", 1, 2))
    nodes = [node("ExpandDims", "Placeholder"), node("DecodeJpeg/contents", "Const", text)]
    nodes += [node("conv/Conv2D", "Conv2D"), node("pool_3/_reshape/shape", "Const", whole)]

    def constant(name, value):
        if name not in leave_out:
            raw = value.contiguous().numpy().tobytes()
            nodes.append(node(name, "Const", tensor_proto(value.shape, raw)))

    leaves = {"beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    for ours, theirs in tensorflow_names().items():
        constant(f"{theirs}/conv2d_params", port[f"{ours}.conv.weight"].permute(2, 3, 1, 0))
        for leaf, part in leaves.items():
            constant(f"{theirs}/batchnorm/{leaf}", port[f"{ours}.bn.{part}"])
        gamma = tensor_proto(port[f"{ours}.bn.weight"].shape, listed=[1.0])
        nodes.append(node(f"{theirs}/batchnorm/gamma", "Const", gamma))
    constant("softmax/weights", port["fc.weight"].T)
    constant("softmax/biases", port["fc.bias"])
    path.write_bytes(b"".join(nodes) + field(4, field(1, 8)))
    return path
