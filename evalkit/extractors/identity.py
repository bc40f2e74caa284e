"""What makes an instrument the same instrument: one digest of its name, version, settings and weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def identity(
    name: str, version: int, settings: Mapping[str, object], tensors: Mapping[str, Tensor] | None = None
) -> str:
    """`sha256:` and 64 hex digits: equal for equal name, version, JSON settings and tensors (dtype, shape, bytes)."""
    total = hashlib.sha256(json.dumps([name, version, settings], sort_keys=True).encode())
    for key, tensor in sorted((tensors or {}).items()):
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        total.update(json.dumps([key, array.dtype.str, array.shape]).encode())
        total.update(array.tobytes())
    return f"sha256:{total.hexdigest()}"
