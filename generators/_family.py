"""What every reference generator shares: its controls, its identity and the folder it is kept in.

A family says what it learns (`_learn`), how it draws one batch (`_draw`) and what must be kept (`_tensors`, `_facts`,
`_restore`). Everything a caller sees of the `Generator` protocol is here, once.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, UnknownName, UnwritableOutput
from evalkit.types import Batch, Control, Modality, Progress, Role, SampleSet

from ._training import Diverged

SCHEMA = "evalkit.generator/1"
CARD, MODEL = "card.json", "model.safetensors"

# Samples made at once. It never depends on n, so that a seed's first batches stay what they are when more is asked for.
BATCH = 64


class Family(ABC):
    """A reference generator before its family has said what it learns."""

    name: str
    modality: Modality
    role: Role
    controls: ClassVar[tuple[Control, ...]] = ()
    # What it learns from, where that is not what it makes: a captioner learns from images.
    learns_from: Modality | None = None
    # Whether it learns from whichever modality it is given, and makes that.
    takes_any: ClassVar[bool] = False
    # Whether a call starts a program or is paid for: it is then called for the samples asked for and not for the clock.
    costly: ClassVar[bool] = False
    # Controls read only while sampling: changing them must not ask for a new training.
    at_sampling: ClassVar[frozenset[str]] = frozenset()
    # Raised whenever the architecture or the training changes, so that kept models of the old one are not taken for it.
    version: ClassVar[int] = 1

    def __init__(self, **controls: int | float | str) -> None:
        """Controls by name, each as declared in `controls`; raises UnknownName or BadSetting."""
        self._settings = resolve(self.name, self.controls, controls)
        self._trained_on = ""
        self._parameters = 0
        # Filled in by whoever held the clock.
        self.training_seconds: float | None = None

    @property
    def settings(self) -> dict[str, int | float | str]:
        """Every control with the value it has here."""
        return dict(self._settings)

    @property
    def recipe(self) -> str:
        """sha256 of the family, its version and the controls that shape training."""
        shaping = {k: v for k, v in self._settings.items() if k not in self.at_sampling}
        terms = {"family": self.name, "version": self.version, "controls": shaping}
        return "sha256:" + hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()

    @property
    def trained_on(self) -> str:
        """Digest of the training set; empty before `fit` or `load`."""
        return self._trained_on

    @property
    def parameters(self) -> int:
        """How many numbers were learned from the training set."""
        return self._parameters

    def fit(self, samples: SampleSet, *, seed: int, device: str = "cpu", progress: Progress | None = None) -> None:
        """Learn from a sample set; same samples, seed and device, same model.

        Raises ModalityMismatch, TooFewSamples or BadSource for samples this family cannot learn from; the generator is
        then as it was before. Raises RunFailed when training diverges: it is then the last sound state of that
        training, and as it was before when there is none yet.
        """
        modality = self.learns_from or self.modality
        if samples.modality != modality:
            raise ModalityMismatch(f"{self.name} learns from {modality}s, {samples.name!r} holds {samples.modality}s")
        try:
            self._parameters = self._learn(samples, seed, device, progress)
        except Diverged as e:
            if e.state is not None and self._salvage(e.state):
                self._parameters = sum(v.numel() for v in e.state.values())
                self._trained_on = samples.digest
            raise
        self._trained_on = samples.digest

    def to(self, device: str) -> None:  # noqa: B027 (most families hold tables, not networks)
        """Sample on `device` from now on; families without a network stay where they are."""

    def sample(self, n: int, seed: int) -> Iterator[Batch]:
        """n samples in batches of at most 64; same seed and same n, same samples. Raises BadSetting before `fit`."""
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before sample")
        if n < 1:
            raise BadSetting(f"{n} samples asked of {self.name}; ask for at least 1")
        return self._batches(n, seed)

    def _batches(self, n: int, seed: int) -> Iterator[Batch]:
        rng = torch.Generator().manual_seed(seed)
        for start in range(0, n, BATCH):
            # No context manager around the yield: what it sets would leak into the caller between two batches.
            with torch.inference_mode():
                batch = self._draw(start, min(BATCH, n - start), rng)
            yield batch

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `card.json` into `folder`; raises UnwritableOutput."""
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; there is nothing to save")
        model = safetensors.save({k: v.detach().cpu().contiguous() for k, v in self._tensors().items()})
        card = {
            "schema": SCHEMA,
            "name": self.name,
            "modality": self.modality,
            "role": self.role,
            "version": self.version,
            "recipe": self.recipe,
            "settings": self._settings,
            "trained_on": self._trained_on,
            "parameters": self._parameters,
            **({} if self.training_seconds is None else {"training_seconds": self.training_seconds}),
            "model": hashlib.sha256(model).hexdigest(),
            "facts": self._facts(),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The card last: a folder with a card is a whole model.
            _write(folder / MODEL, model)
            _write(folder / CARD, (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())
        except OSError as e:
            raise UnwritableOutput(
                f"cannot write {self.name} to {folder}: {e.strerror or e}; choose another folder"
            ) from e

    def load(self, folder: Path) -> None:
        """Read back what `save` wrote; raises BadSource when it is missing, damaged or another generator's."""
        card, model = self._read(folder)
        try:
            self._restore(safetensors.load(model), card["facts"])
            self._parameters, self._trained_on = int(card["parameters"]), str(card["trained_on"])
            self.training_seconds = None if (took := card.get("training_seconds")) is None else float(took)
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as e:
            why = str(e).splitlines()[0] if str(e) else type(e).__name__
            raise BadSource(f"{folder} does not hold a readable {self.name} model ({why}); train it again") from e

    def _read(self, folder: Path) -> tuple[dict[str, Any], bytes]:
        """Card and model bytes, once they are known to belong together and to this generator."""
        try:
            card = json.loads((folder / CARD).read_bytes())
            model = (folder / MODEL).read_bytes()
        except OSError as e:
            what = f"{Path(e.filename).name if e.filename else CARD}: {e.strerror}"
            raise BadSource(f"{folder} is not a model folder ({what}); expected {MODEL} and {CARD}") from e
        except ValueError as e:
            raise BadSource(f"{folder / CARD} is not valid JSON; train the model again") from e
        if not isinstance(card, dict) or card.get("schema") != SCHEMA:
            raise BadSource(f"{folder / CARD} is not a generator's card; expected schema {SCHEMA}")
        if card.get("name") != self.name:
            raise BadSource(f"{folder} holds the generator {card.get('name')!r}, expected {self.name!r}")
        if card.get("recipe") != self.recipe:
            raise BadSource(f"{folder} holds another {self.name}: {self._difference(card)}; train it again")
        if card.get("model") != hashlib.sha256(model).hexdigest():
            raise BadSource(f"{folder / MODEL} is damaged: it is not the file its card describes; train it again")
        return card, model

    def _difference(self, card: Mapping[str, Any]) -> str:
        if card.get("version") != self.version:
            return f"version {card.get('version')}, expected {self.version}"
        kept: dict[str, Any] = card["settings"] if isinstance(card.get("settings"), dict) else {}
        unlike = [
            f"{k}={kept.get(k)!r}, expected {v!r}"
            for k, v in self._settings.items()
            if k not in self.at_sampling and kept.get(k) != v
        ]
        return "; ".join(unlike) or "its recipe differs"

    # ------------------------------------------------------------------ what a family says

    @abstractmethod
    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        """Learn, keep the result on `self` only when all went well, and return the number of learned parameters."""

    @abstractmethod
    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        """Samples `start` to `start + count`, all chance from `rng`; gradients are off."""

    def _salvage(self, state: dict[str, Tensor]) -> bool:
        """Become the network of a diverged training as `LastGood` kept it; False where a family cannot."""
        return False

    @abstractmethod
    def _tensors(self) -> dict[str, Tensor]:
        """What goes into `model.safetensors`."""

    def _facts(self) -> dict[str, Any]:
        """What `_restore` needs beside the tensors, as JSON."""
        return {}

    @abstractmethod
    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Become the model whose tensors and facts these are."""


def resolve(
    owner: str, declared: Sequence[Control], given: Mapping[str, int | float | str]
) -> dict[str, int | float | str]:
    """Every declared control with its given or default value; raises UnknownName or BadSetting.

    A number may come as text, as it does from a command line.
    """
    known = {c.name: c for c in declared}
    for name in given:
        if name not in known:
            raise UnknownName("control", f"{owner}.{name}", [f"{owner}.{k}" for k in known])
    return {c.name: _checked(owner, c, given.get(c.name, c.default)) for c in declared}


def _checked(owner: str, control: Control, value: int | float | str) -> int | float | str:
    if isinstance(control.default, str):
        if not isinstance(value, str):
            raise BadSetting(f"{owner}.{control.name} = {value!r}; expected {control.says}")
        if control.choices and value not in control.choices:
            raise BadSetting(f"{owner}.{control.name} = {value!r}; expected one of {', '.join(control.choices)}")
        return value
    whole = isinstance(control.default, int)
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    low = -math.inf if control.low is None else control.low
    high = math.inf if control.high is None else control.high
    if not (low <= number <= high and math.isfinite(number)) or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise BadSetting(f"{owner}.{control.name} = {value!r}; expected {kind} from {low:g} to {high:g}")
    return int(number) if whole else number


def _write(path: Path, content: bytes) -> None:
    """Beside, then renamed: a reader sees the old file or the new one, never half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
