"""What an audit was asked to do, frozen before the first file is opened: all that can move a record.

It is plain JSON, its digest stands at the head of the chain, and a later call on the same folder must ask for the same.
What cannot move a record (how many workers, whether progress is shown) is no part of it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cache import digest_of
from ..errors import BadSetting, BadSource
from ..hardware import environment

# Packages that decode, hash, sign or score: another version may give another record.
PACKAGES = ("pillow", "numpy", "torch", "scipy", "scikit-learn", "c2pa-python", "pdqhash", "ImageHash", "onnxruntime")
# How many distinct contents are examined together: a record depends on its batch, so the number is fixed here.
BATCH = 64


@dataclass(frozen=True)
class Configuration:
    """One audit's frozen plan.

    detectors: place, name, digest and trained_on of each. calibration, hash_list, captions: a file of the audit's
    folder and its sha256. witnesses: names and settings. device: where networks run ("cpu", "cuda"), without a number.
    asked: the command's own words.
    """

    detectors: tuple[Mapping[str, Any], ...] = ()
    attributor: Mapping[str, Any] | None = None
    witnesses: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    calibration: Mapping[str, Any] | None = None
    hash_list: Mapping[str, Any] | None = None
    captions: Mapping[str, Any] | None = None
    fdr: float = 0.05
    method: str = "bh"
    watermark_alpha: float = 1e-6
    believe_claims: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    as_of: str = ""
    device: str = "cpu"
    asked: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.fdr < 1:
            raise BadSetting(f"--fdr {self.fdr}; expected a false-discovery rate between 0 and 1, such as 0.05")

    def plain(self) -> dict[str, Any]:
        """As JSON; what the machine is made of is beside it, under `code`."""
        kept = {k: v for k, v in self.__dict__.items() if v not in (None, (), "", {})}
        return {**kept, **{k: _listed(v) for k, v in kept.items() if isinstance(v, tuple)}, "code": code()}

    @staticmethod
    def read(plain: Mapping[str, Any]) -> Configuration:
        """The configuration that `plain` gave."""
        body: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items() if k != "code"}
        if "witnesses" in body:
            body["witnesses"] = tuple((str(name), dict(settings)) for name, settings in body["witnesses"])
        return Configuration(**body)

    @property
    def digest(self) -> str:
        return f"sha256:{digest_of(self.plain())}"


def _listed(value: Any) -> Any:
    return [_listed(v) for v in value] if isinstance(value, tuple | list) else value


def code() -> dict[str, Any]:
    """Version, commit and state of the code, and the versions of what reads and scores."""
    here = environment("cpu")
    kept: dict[str, Any] = {key: here[key] for key in ("evalkit", "commit", "dirty", "python") if key in here}
    return {**kept, "packages": {name: found for name in PACKAGES if (found := _version(name))}}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def file_digest(path: Path) -> str:
    """sha256:... of a file. Raises BadSource when it cannot be read."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise BadSource(f"cannot read {str(path)!r}: {error.strerror or error}") from error
