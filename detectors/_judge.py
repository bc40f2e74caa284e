"""What every judge shares: its identity, its threshold, and its folder of `model.safetensors` and `card.json`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of
from torch import Tensor

from evalkit.errors import BadRecord, BadSource, RunFailed, UnwritableOutput
from evalkit.extractors.identity import identity
from evalkit.types import Modality

from ._calibrate import THRESHOLD
from ._linear import linear_tensors

SCHEMA = "evalkit.detector/1"
MODEL, CARD = "model.safetensors", "card.json"


class Judge:
    """Base of the detectors: holds what `fit` learnt as named tensors and a few JSON facts beside them.

    A judge sets `name`, `modality`, `version` and `settings`, and writes `prepare`, `fit` (which ends in `_learn`) and
    `__call__`. `_ready` is called whenever the tensors change or move.
    """

    name: ClassVar[str]
    modality: ClassVar[Modality]
    version: ClassVar[int] = 1
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({})

    def __init__(self) -> None:
        self._device = "cpu"
        self._tensors: dict[str, Tensor] = {}
        self._facts: dict[str, Any] = {}
        self._trained_on = ""

    @property
    def recipe(self) -> str:
        """The digest of architecture, settings and version, before any fitting."""
        return identity(self.name, self.version, dict(self.settings))

    @property
    def digest(self) -> str:
        """The digest of recipe and fitted weights; the word `unfitted` and the recipe before fitting."""
        if not self._tensors:
            return f"unfitted:{self.recipe}"
        return identity(self.recipe, self.version, self._facts, self._tensors)

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"p_fake": slice(0, 1)})

    @property
    def threshold(self) -> tuple[float, float]:
        """Below the first P(fake) is called authentic, above the second synthetic, between them uncertain."""
        return THRESHOLD

    @property
    def trained_on(self) -> str:
        return self._trained_on

    def to(self, device: str) -> None:
        self._device = device
        self._tensors = {key: tensor.to(device) for key, tensor in self._tensors.items()}
        if self._tensors:
            self._ready()

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `card.json`; each is written beside its place and then renamed into it."""
        self._fitted()
        content = bytes_of({key: tensor.cpu().contiguous() for key, tensor in self._tensors.items()})
        card = {
            "schema": SCHEMA,
            "name": self.name,
            "modality": self.modality,
            "recipe": self.recipe,
            "digest": self.digest,
            "threshold": list(self.threshold),
            "trained_on": self._trained_on,
            "facts": self._facts,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / MODEL, content)
            _write(folder / CARD, (json.dumps(card, indent=2) + "\n").encode())
        except OSError as error:
            raise UnwritableOutput(f"detector folder {folder} cannot be written ({error.strerror})") from error

    def load(self, folder: Path) -> None:
        """Read a folder that `save` wrote.

        Raises BadSource when a file is missing, BadRecord when the folder belongs to something else or to another
        version of this detector, or when the model file is not the one its card describes.
        """
        card, content = _read(folder)
        if card.get("schema") != SCHEMA or card.get("name") != self.name:
            found = f"{card.get('schema')} {card.get('name')!r}"
            raise BadRecord(f"{folder} holds {found}, not {SCHEMA} {self.name!r}; give a folder it wrote")
        if card.get("recipe") != self.recipe:
            raise BadRecord(f"{folder} was written by another version of detector {self.name!r}; train it again")
        if hashlib.sha256(content).hexdigest() != card.get("sha256"):
            raise BadRecord(f"{folder / MODEL} is damaged: its sha256 is not the one in {CARD}; train it again")
        try:
            tensors = tensors_from(content)
            self._learn(tensors, dict(card["facts"]), str(card["trained_on"]))
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise BadRecord(f"{folder} is not a complete model of detector {self.name!r}; train it again") from error

    def _learn(self, tensors: dict[str, Tensor], facts: dict[str, Any], trained_on: str) -> None:
        """Take over what was learnt, all or nothing: a refused model leaves the judge as it was."""
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError("a weight is not a finite number")
        before = self._tensors, self._facts, self._trained_on
        self._tensors = {key: tensor.to(self._device) for key, tensor in tensors.items()}
        self._facts, self._trained_on = facts, trained_on
        try:
            self._ready()
        except Exception:
            self._tensors, self._facts, self._trained_on = before
            raise

    def _ready(self) -> None:
        """Check the tensors, and build from them what the judge computes with; KeyError or ValueError when wrong."""

    def _fitted(self) -> dict[str, Tensor]:
        if not self._tensors:
            raise RunFailed(f"detector {self.name!r} has not been fitted; train it or load a trained one first")
        return self._tensors


class LinearJudge(Judge):
    """A judge whose log-odds are a linear function of standardised columns; calibration is in the coefficients."""

    columns: ClassVar[int]

    def _ready(self) -> None:
        for key in ("mean", "scale", "coefficients"):
            if self._tensors[key].shape != (self.columns,):
                raise ValueError(f"{key} has shape {tuple(self._tensors[key].shape)}, expected {(self.columns,)}")
        if self._tensors["intercept"].shape != (1,):
            raise ValueError("intercept is not one number")

    def _p_fake(self, rows: Tensor) -> Tensor:
        """P(fake) [B, 1] of rows [B, columns]."""
        t = self._fitted()
        log_odds = ((rows - t["mean"]) / t["scale"]) @ t["coefficients"] + t["intercept"]
        return torch.sigmoid(log_odds)[:, None].float()

    def _learn_linear(self, rows: Tensor, is_fake: Any, C: float, seed: int, trained_on: str) -> None:
        """Standardise rows [N, columns] and fit the calibrated logistic regression on them."""
        self._learn(linear_tensors(rows, is_fake, C, seed), {"seed": seed}, trained_on)


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        content = (folder / MODEL).read_bytes()
    except OSError as error:
        raise BadSource(f"{folder} is no detector folder: it needs {MODEL} and {CARD} ({error.strerror})") from error
    except ValueError as error:
        raise BadRecord(f"{folder / CARD} is not JSON; train the detector again") from error
    if not isinstance(card, dict):
        raise BadRecord(f"{folder / CARD} is not a detector's card; train the detector again")
    return card, content
