"""What can go wrong, and the exit code each thing has.

EvalkitError
├── UsageError               2  something given is wrong; nothing was run
│   ├── UnknownName             a name that no door knows (carries the nearest one)
│   ├── BadSource               a source that cannot be opened as samples
│   ├── BadSetting              a setting, control or configuration key that does not exist or is out of range
│   ├── ModalityMismatch        images where texts are needed, or two modalities under one table
│   ├── TooFewSamples           fewer samples than a metric can bear
│   ├── BadRows                 rows that are not finite numbers
│   ├── BadRecord               a record of an unknown schema, or not a record
│   └── UnwritableOutput        an output that cannot be written
├── RunFailed                3  it was asked correctly and still did not work
├── Inconclusive             4  it ran, but the answer is not one to act on
├── NothingToEvaluate        5  no readable sample at all
└── UnreadableSample         -  one sample; collected under `excluded`, never dropped

Every message is one line: what was given, what was expected, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum

# Tables of at most so many names are told whole beside the nearest one.
FEW = 12


class ExitCode(IntEnum):
    """Process exit codes of the command line; when several apply, `worst` decides."""

    DONE = 0
    FAILED_GATE = 1
    USAGE = 2
    RUN_FAILED = 3
    INCONCLUSIVE = 4
    NOTHING = 5
    SIGINT = 130
    SIGTERM = 143

    @staticmethod
    def worst(codes: Iterable[ExitCode]) -> ExitCode:
        """The code that outranks the others: 2 > 3 > 5 > 1 > 4 > 0."""
        order = [
            ExitCode.SIGINT,
            ExitCode.SIGTERM,
            ExitCode.USAGE,
            ExitCode.RUN_FAILED,
            ExitCode.NOTHING,
            ExitCode.FAILED_GATE,
            ExitCode.INCONCLUSIVE,
            ExitCode.DONE,
        ]
        return min(codes, key=order.index, default=ExitCode.DONE)


class EvalkitError(Exception):
    """Root of every error this package raises on purpose."""

    exit_code = ExitCode.RUN_FAILED


class UsageError(EvalkitError):
    exit_code = ExitCode.USAGE


class UnknownName(UsageError):
    """A name that is not in a table, with the nearest name that is, or with all of them."""

    def __init__(self, kind: str, name: str, known: Iterable[str], advice: str = "") -> None:
        names = sorted(known)
        listed = f"known: {', '.join(names)}" if names else "there are none"
        if near := _nearest(name, names):
            # A short table is told whole: the nearest of few names is often not the one that was meant.
            listed = f"did you mean {near!r}?" + (f" {listed}" if len(names) <= FEW else "")
        super().__init__(f"unknown {kind} {name!r}; {listed}{advice}")


def _nearest(name: str, names: list[str]) -> str:
    """The most like of the names, "" when none is; an owner before the last dot that all share makes none more like."""
    owner = name[: name.rfind(".") + 1]
    shared = owner if all(other.startswith(owner) for other in names) else ""
    tails = [other.removeprefix(shared) for other in names]
    near = difflib.get_close_matches(name.removeprefix(shared), tails, n=1, cutoff=0.55)
    return shared + near[0] if near else ""


class BadSource(UsageError):
    pass


class BadSetting(UsageError):
    pass


class ModalityMismatch(UsageError):
    pass


class TooFewSamples(UsageError):
    pass


class BadRows(UsageError):
    pass


class BadRecord(UsageError):
    pass


class DoesNotApply(UsageError):
    """A number that this subject cannot have, which is not a number that is missing."""


class UnwritableOutput(UsageError):
    pass


class RunFailed(EvalkitError):
    exit_code = ExitCode.RUN_FAILED


class Inconclusive(EvalkitError):
    exit_code = ExitCode.INCONCLUSIVE


class NothingToEvaluate(EvalkitError):
    exit_code = ExitCode.NOTHING


class UnreadableSample(EvalkitError):
    """One sample could not be decoded; the reason is its message."""
