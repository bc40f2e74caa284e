"""Tensors of a Keras file under torch's names and in torch's order of axes.

Keras numbers the layers of a kind as they are made, over everything made in that process: the third convolution of a
network may be `conv2d_7`. So layers are taken by kind and rank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

KINDS = {"conv": "conv2d", "bn": "batch_normalization", "fc": "dense"}
PARTS = {
    "conv": {"weight": "kernel", "bias": "bias"},
    "fc": {"weight": "kernel", "bias": "bias"},
    "bn": {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
}


def named_for_torch(
    tensors: Mapping[str, Tensor], conv: Sequence[str], bn: Sequence[str], fc: Sequence[str], flat: tuple[int, int, int]
) -> dict[str, Tensor]:
    """Tensors "layer/part" of a Keras network as those of a torch one whose modules, in the order they are made, are
    called `conv`, `bn` and `fc`; flat: the (channels, height, width) that the first of `fc` reads.

    Raises ValueError, in words, when the file holds another number of layers of a kind, or a layer lacks a part.
    """
    found: dict[str, Tensor] = {}
    for kind, names in (("conv", conv), ("bn", bn), ("fc", fc)):
        layers = _of_kind(tensors, KINDS[kind])
        if len(layers) != len(names):
            raise ValueError(f"they hold {len(layers)} layers {KINDS[kind]}, expected {len(names)}")
        for name, layer in zip(names, layers, strict=True):
            for torch_part, keras_part in PARTS[kind].items():
                if (tensor := tensors.get(f"{layer}/{keras_part}")) is None:
                    raise ValueError(f"they lack {layer}/{keras_part}")
                found[f"{name}.{torch_part}"] = tensor
    for name in conv:
        found[f"{name}.weight"] = found[f"{name}.weight"].permute(3, 2, 0, 1).contiguous()
    channels, height, width = flat
    for name in fc:
        weight = found[f"{name}.weight"]
        if name == fc[0] and weight.shape[0] == channels * height * width:
            # Keras flattens [height, width, channels], torch [channels, height, width].
            weight = weight.view(height, width, channels, -1).permute(2, 0, 1, 3).flatten(0, 2)
        found[f"{name}.weight"] = weight.T.contiguous()
    return found


def _of_kind(tensors: Mapping[str, Tensor], kind: str) -> list[str]:
    """Names of the layers of a kind, in the order they were made: `dense`, `dense_1`, ..."""
    layers = {key.partition("/")[0] for key in tensors}
    numbered = [(int(m[1] or 0), m[0]) for layer in layers if (m := re.fullmatch(rf"{kind}(?:_(\d+))?", layer))]
    return [layer for _, layer in sorted(numbered)]
