"""What one run of one subject found, as it is written to disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .line import Excluded, Modality, Role
from .metrics import MetricResult

# How the ids of excluded samples begin that belong to the reference or the training data and not to the subject.
SHARED = ("reference:", "training:")


@dataclass(frozen=True)
class Subject:
    """Who was scored: its name, where its samples came from, how many and their digest."""

    name: str
    modality: Modality
    source: str
    n: int
    digest: str
    role: Role = "candidate"


@dataclass(frozen=True)
class Reference:
    """What it was scored against."""

    name: str
    n: int
    digest: str


@dataclass(frozen=True)
class Share:
    """What one generated sample adds to a number: its influence, or its own score."""

    id: str
    value: float
    group: str | None = None


@dataclass(frozen=True)
class RunRecord:
    """Everything one run of one subject found; written once as strict JSON, schema `evalkit.run/1`."""

    subject: Subject
    reference: Reference | None
    train: Reference | None
    seed: int
    results: tuple[MetricResult, ...]
    timing: Mapping[str, Any] | None
    environment: Mapping[str, Any]
    excluded: tuple[Excluded, ...] = ()
    warnings: tuple[str, ...] = ()
    attribution: Mapping[str, tuple[Share, ...]] | None = None
    schema: str = "evalkit.run/1"
