"""The three files the 2015-12-05 weights travel in: the torch port, NVIDIA's TorchScript, TensorFlow's frozen graph.

Each becomes the tensors of the torch port, by name, and from there the one network. TensorFlow's names lead: NVIDIA
kept them, with other separators.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from ..errors import RunFailed
from ..weights import Weights, load_weights, obtain
from ._inception_net import SIDE, InceptionNet, network

# The graph's file has 95 MB and about 1,000 constants, the largest of 2,064,384 values.
MOST_BYTES = 1 << 27
MOST_CONSTANTS = 1 << 12
MOST_VALUES = 1 << 22
MOST_AXES = 8
# How far a script may be from our network on the same weights, relative to the largest feature.
AGREEMENT = 1e-5

_DOUBLE = {"branch3x3dbl_1": "conv", "branch3x3dbl_2": "conv_1", "branch3x3dbl_3": "conv_2"}
_SEVEN = {"branch7x7_1": "conv", "branch7x7_2": "conv_1", "branch7x7_3": "conv_2"}
_SEVENS = {"branch7x7dbl_1": "conv", **{f"branch7x7dbl_{i}": f"conv_{i - 1}" for i in range(2, 6)}}
_SEVEN_THREE = {"branch7x7x3_1": "conv", **{f"branch7x7x3_{i}": f"conv_{i - 1}" for i in range(2, 5)}}
_SIDES = {"branch1x1": "conv", "branch_pool": "tower_2/conv"}


def _under(tower: str, names: Mapping[str, str]) -> dict[str, str]:
    return {port: f"{tower}/{name}" for port, name in names.items()}


BLOCK_A = {
    **_SIDES,
    **_under("tower", {"branch5x5_1": "conv", "branch5x5_2": "conv_1"}),
    **_under("tower_1", _DOUBLE),
}
BLOCK_B = {"branch3x3": "conv", **_under("tower", _DOUBLE)}
BLOCK_C = {**_SIDES, **_under("tower", _SEVEN), **_under("tower_1", _SEVENS)}
BLOCK_D = {
    **_under("tower", {"branch3x3_1": "conv", "branch3x3_2": "conv_1"}),
    **_under("tower_1", _SEVEN_THREE),
}
BLOCK_E = {
    **_SIDES,
    **_under("tower", {"branch3x3_1": "conv", "branch3x3_2a": "mixed/conv", "branch3x3_2b": "mixed/conv_1"}),
    **_under("tower_1", {"branch3x3dbl_1": "conv", "branch3x3dbl_2": "conv_1"}),
    **_under("tower_1", {"branch3x3dbl_3a": "mixed/conv", "branch3x3dbl_3b": "mixed/conv_1"}),
}
STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
MIXED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "Mixed_5b": BLOCK_A,
        "Mixed_5c": BLOCK_A,
        "Mixed_5d": BLOCK_A,
        "Mixed_6a": BLOCK_B,
        "Mixed_6b": BLOCK_C,
        "Mixed_6c": BLOCK_C,
        "Mixed_6d": BLOCK_C,
        "Mixed_6e": BLOCK_C,
        "Mixed_7a": BLOCK_D,
        "Mixed_7b": BLOCK_E,
        "Mixed_7c": BLOCK_E,
    }
)


@cache
def tensorflow_names() -> dict[str, str]:
    """TensorFlow's name of each of the 94 convolutions by the port's: Mixed_6d.branch7x7_2 -> mixed_6/tower/conv_1."""
    names = {port: f"conv_{i}" if i else "conv" for i, port in enumerate(STEM)}
    for i, (block, branches) in enumerate(MIXED.items()):
        mixed = f"mixed_{i}" if i else "mixed"
        names |= {f"{block}.{port}": f"{mixed}/{name}" for port, name in branches.items()}
    return names


def open_network(layout: str, record: Weights, path: Path | None, layer: str) -> InceptionNet:
    """The network with the weights of one file, on the CPU. layout: "torch", "nvidia" or "adm".

    Raises RunFailed, one line, when the file is absent, is not the recorded one, cannot be read in its layout, or holds
    another network; and when NVIDIA's script computes something else than our network does from its tensors.
    """
    file = obtain(record, path)
    script = None
    if layout == "torch":
        port: Mapping[str, Tensor] = load_weights(record, path)
    elif layout == "nvidia":
        script = _script(file)
        port = from_script(script.state_dict())
    else:
        port = from_tensorflow(read_constants(file))
    try:
        net = network(port, layer)
    except ValueError as error:
        raise RunFailed(f"weights {file} are not those of the 2015-12-05 Inception: {error}") from error
    if script is not None:
        _check_agreement(script, port, file)
    return net


# NVIDIA's TorchScript -------------------------------------------------------------------------------------


def from_script(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The port's tensors from a script's: `layers.mixed_6.tower.conv_1.weight`, `.beta`, `.mean`, `.var`; no gamma.

    The script nests some towers and flattens others (`layers.mixed_9.tower_mixed_conv`); read with one separator, its
    names are TensorFlow's. What is absent stays absent: the network names it.
    """
    flat = {name.removeprefix("layers.").replace(".", "/").replace("/", "_"): value for name, value in state.items()}
    parts = {"conv.weight": "weight", "bn.bias": "beta", "bn.running_mean": "mean", "bn.running_var": "var"}
    port = {
        f"{ours}.{part}": flat[key]
        for ours, theirs in tensorflow_names().items()
        for part, leaf in parts.items()
        if (key := f"{theirs}_{leaf}".replace("/", "_")) in flat
    }
    return port | {f"fc.{leaf}": flat[f"output_{leaf}"] for leaf in ("weight", "bias") if f"output_{leaf}" in flat}


def _script(file: Path) -> torch.jit.ScriptModule:
    """The program in a verified file; loading it runs nothing of it."""
    try:
        with warnings.catch_warnings():
            # torch says that it prefers another format; this file has none.
            warnings.simplefilter("ignore", FutureWarning)
            script: torch.jit.ScriptModule = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # Each damage has an error of its own.
        raise RunFailed(f"weights {file} cannot be read as TorchScript ({_first_line(error)})") from error
    return script.eval()


@torch.no_grad()
def _check_agreement(script: torch.jit.ScriptModule, port: Mapping[str, Tensor], file: Path) -> None:
    """Run script and network on one random image: equal names do not prove equal strides, pools and epsilons."""
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ours = network(port, "pool3")(image)[:, :2048]
    try:
        theirs = script.layers(image).reshape(1, -1)
    except (RuntimeError, AttributeError) as error:
        raise RunFailed(f"weights {file}: the script's layers cannot be run ({_first_line(error)})") from error
    apart = float((ours - theirs).abs().max() / theirs.abs().max()) if ours.shape == theirs.shape else math.inf
    if not apart <= AGREEMENT:
        raise RunFailed(
            f"weights {file}: the script's features differ from the 2015-12-05 graph by {apart:.1e} of the largest"
            f" (expected at most {AGREEMENT:g}); use inception with the torch weights"
        )


# TensorFlow's frozen graph --------------------------------------------------------------------------------


def from_tensorflow(constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The port's tensors from the constants of the graph: HWIO kernels become OIHW, the softmax's weights turn."""
    parts = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    port: dict[str, Tensor] = {}
    for ours, theirs in tensorflow_names().items():
        kernel = constants.get(f"{theirs}/conv2d_params")
        if kernel is not None and kernel.dim() == 4:
            port[f"{ours}.conv.weight"] = kernel.permute(3, 2, 0, 1)
        for part, leaf in parts.items():
            if (value := constants.get(f"{theirs}/batchnorm/{leaf}")) is not None:
                port[f"{ours}.bn.{part}"] = value
    if "softmax/weights" in constants:
        port["fc.weight"] = constants["softmax/weights"].mT
    if "softmax/biases" in constants:
        port["fc.bias"] = constants["softmax/biases"]
    return port


def read_constants(file: Path) -> dict[str, Tensor]:
    """The float32 constants of a frozen TensorFlow graph (GraphDef, a protocol-buffer message), by node name.

    Reads only what it needs and nothing past a length it has checked. Raises RunFailed, one line, for any other file.
    """
    try:
        if file.stat().st_size > MOST_BYTES:
            raise _Malformed(f"{file.stat().st_size} bytes, expected about 95 MB")
        found: dict[str, Tensor] = {}
        for number, node in _fields(memoryview(file.read_bytes())):
            if number == 1:  # GraphDef.node
                found |= _constant(_bytes(node))
            if len(found) > MOST_CONSTANTS:
                raise _Malformed(f"more than {MOST_CONSTANTS} constants")
    except (OSError, _Malformed) as error:
        raise RunFailed(f"weights {file} cannot be read as a frozen TensorFlow graph ({error})") from error
    return found


class _Malformed(ValueError):
    """Bytes that are not the message they should be."""


def _constant(node: memoryview) -> dict[str, Tensor]:
    """{name: tensor} of a NodeDef that is a float32 constant, else nothing."""
    if bytes(_last(node, 2)) != b"Const":
        return {}
    for number, attribute in _fields(node):
        if number == 5 and bytes(_last(_bytes(attribute), 1)) == b"value":
            # The value of the map's entry, and in it AttrValue.tensor.
            values = _float_tensor(_last(_last(_bytes(attribute), 2), 8))
            return {} if values is None else {bytes(_last(node, 1)).decode("utf-8", "replace"): values}
    return {}


def _float_tensor(message: memoryview) -> Tensor | None:
    """A TensorProto's values, None when they are not float32; one listed value fills the shape, as TensorFlow does."""
    kind, sizes, raw = 0, list[int](), bytearray()
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2:
            sizes = _shape(_bytes(value))
        elif number in (4, 5):  # tensor_content, or float_val one by one
            raw += _bytes(value)
    n = math.prod(sizes)
    if kind != 1 or n == 0:  # DT_FLOAT
        return None
    if n > MOST_VALUES or len(raw) not in (4 * n, 4):
        raise _Malformed(f"a constant of {n} values in {len(raw)} bytes")
    values = torch.frombuffer(raw, dtype=torch.float32)
    return values.expand(n).reshape(sizes) if len(raw) == 4 else values.reshape(sizes)


def _shape(message: memoryview) -> list[int]:
    """The lengths in a TensorShapeProto; a length that is absent is 0, as protocol buffers have it."""
    sizes: list[int] = []
    for number, axis in _fields(message):
        if number == 2:
            sizes.append(next((n for field, n in _fields(_bytes(axis)) if field == 1 and isinstance(n, int)), 0))
        if len(sizes) > MOST_AXES or any(size > MOST_VALUES for size in sizes):
            raise _Malformed("a constant of an impossible shape")
    return sizes


def _last(message: memoryview, number: int) -> memoryview:
    """The bytes of a field, of its last occurrence where it is repeated; none where it is absent."""
    found = memoryview(b"")
    for field, value in _fields(message):
        if field == number:
            found = _bytes(value)
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one message: whole numbers as int, everything else as its bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire == 2:
            length, at = _varint(message, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _Malformed(f"an unknown wire type {wire}")
        if length > len(message) - at:
            raise _Malformed("it is cut off")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A base-128 number of at most ten bytes and where it ends."""
    value = 0
    for i, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value, at + i + 1
    raise _Malformed("a number does not end")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _Malformed("a number where a message is expected")
    return value


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
