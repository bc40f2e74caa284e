"""What this machine can do: versions, devices, cache, and the known broken combinations in words."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from .cache import Cache, default_root
from .errors import EvalkitError

PACKAGES = ("torch", "torchvision", "torchmetrics", "scipy", "scikit-learn", "pandas", "open_clip_torch", "clean-fid")
# Extras of this package, and what each brings that does a network's arithmetic on a CPU beside torch.
BACKENDS = {"openvino": "openvino", "onnx": "onnxruntime"}


def checks() -> Iterator[tuple[bool, str]]:
    """(whether it is well, a line about it) for each thing that is looked at."""
    yield True, f"python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores"
    for package in PACKAGES:
        try:
            yield True, f"{package} {version(package)}"
        except PackageNotFoundError:
            yield False, f"{package} is not installed; pip install {package}"
    yield _torch()
    yield _torchvision()
    yield from _backends()
    yield _cache()


def _torch() -> tuple[bool, str]:
    try:
        from .hardware import device_label, resolve_device

        device = resolve_device()
        return True, f"device {device}: {device_label(device)}"
    except (ImportError, OSError, EvalkitError) as error:
        return False, f"torch does not work: {error}"


def _torchvision() -> tuple[bool, str]:
    """Builds of torch and torchvision from different places import, and then fail at the first operator."""
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        return False, (
            f"torchvision does not fit this torch ({str(error).splitlines()[0]}); install both from one place;"
            " open_clip and clean-fid need it, everything else works without"
        )
    return True, "torchvision works with this torch"


def _backends() -> Iterator[tuple[bool, str]]:
    """The runtimes that may stand in for torch on a CPU; none of them has to be there."""
    for extra, package in BACKENDS.items():
        try:
            yield True, f"backend {extra}: {package} {version(package)}"
        except PackageNotFoundError:
            yield True, f"backend {extra}: not installed (optional; pip install 'evalkit[{extra}]')"
    word = os.environ.get("EVALKIT_BACKEND")
    yield True, f"EVALKIT_BACKEND={word}" if word else "EVALKIT_BACKEND is not set: auto"


def _cache() -> tuple[bool, str]:
    try:
        found = Cache(default_root()).info()
    except EvalkitError as error:
        return False, str(error)
    size = sum(size for _, size in found.values())
    return True, f"cache {default_root()}: {size / 2**20:.1f} MiB"
