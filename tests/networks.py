"""Networks with random weights in files of the published layout, and images that are smooth as photographs are."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from evalkit.weights import Weights


def scaled(like, seed=0):
    """Random tensors of the names and shapes given, scaled so that activations neither vanish nor grow."""
    g = torch.Generator().manual_seed(seed)
    made = {}
    for name, tensor in like.items():
        drawn = torch.randn(tensor.shape, generator=g)
        if tensor.ndim <= 1:
            around = 1.0 if name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "gamma")) else 0.0
            made[name] = around + 0.1 * drawn
        else:
            made[name] = drawn * (2 / tensor[0].numel()) ** 0.5
    return made


def written(tensors, path, **facts):
    """The record of a file with these tensors."""
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Weights(path.name, digest, "none", "random numbers", url="https://example.invalid/weights", **facts)


def photographs(*sizes, seed=0):
    """One image a size (height, width), uint8 [H, W, 3]: noise whose amplitude falls with its frequency."""
    g = torch.Generator().manual_seed(seed)
    images = []
    for height, width in sizes:
        layers = torch.zeros(3, height, width)
        for cells in (2, 4, 8, 16, 32):
            noise = torch.randn(1, 3, cells, cells, generator=g)
            layers += F.interpolate(noise, (height, width), mode="bicubic", antialias=True)[0] / cells**0.5
        grey = (128 + 60 * layers).clamp(0, 255).to(torch.uint8)
        images.append(np.ascontiguousarray(grey.permute(1, 2, 0).numpy()))
    return images
