"""Weights that travel with the package: one frozen record each, opened only when the file is the one recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from .errors import RunFailed

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Weights:
    """Where a weight file lies (relative to this package), what it must hash to, and where it comes from."""

    file: str
    sha256: str
    licence: str
    trained_on: str
    card: str

    @property
    def path(self) -> Path:
        return PACKAGE / self.file


SHIPPED: Mapping[str, Weights] = MappingProxyType(
    {
        "digits_net": Weights(
            file="extractors/weights/digits_net.safetensors",
            sha256="5ea7b68447880113b68fc4d36e72dcf66ca82b20a29bed330469c53b2ae6e9c6",
            licence="Apache-2.0",
            trained_on="embedded:digits/train (UCI optical digits, CC BY 4.0)",
            card="extractors/weights/digits_net.card.json",
        ),
        "prose_lm": Weights(
            file="extractors/weights/prose_lm.safetensors",
            sha256="bae69b57564d9806aec473aca1d17decce40bbc70a5802fba305c2c779a7ecbc",
            licence="Apache-2.0",
            trained_on="embedded:prose/train (CPython's reference topics, PSF-2.0)",
            card="extractors/weights/prose_lm.card.json",
        ),
    }
)


def load_weights(record: Weights) -> dict[str, Tensor]:
    """The tensors of a weight file, on the CPU, in the dtype they are stored in.

    Raises RunFailed, naming file, expected and found digest, when the file is missing or is not the one recorded: a
    score from other weights would look like a score from these.
    """
    from safetensors.torch import load

    try:
        content = record.path.read_bytes()
    except OSError as error:
        raise RunFailed(f"weights {record.path} cannot be read ({error.strerror}); reinstall the package") from error
    found = hashlib.sha256(content).hexdigest()
    if found != record.sha256:
        raise RunFailed(
            f"weights {record.path} are not the ones recorded: expected sha256 {record.sha256}, found {found}; "
            "reinstall the package"
        )
    tensors: dict[str, Tensor] = load(content)
    return tensors
