"""Which number of a record a rule means: `fid` is `fid@inception`, `prdc.recall@pixels` is `prdc@pixels.recall`.

A name that stands in a record is taken as it stands, so that a gate needs neither the plug-in that measured a number
nor, most of the time, any import beyond the record's. Every other name goes through the same plan as `--metrics`.
"""

from __future__ import annotations

from collections.abc import Collection

from ..errors import ModalityMismatch, UnknownName
from ..types import Modality


def full_name(name: str, modality: Modality, known: Collection[str]) -> str:
    """The name in full, as a record has it; UnknownName, with the nearest, when neither record nor registry knows it.

    known: the names in the record and its baseline. Raises ModalityMismatch for a metric of the other modality.
    """
    if name in known:
        return name
    from ..planning import plan

    stem, mark, group = name.partition(".group=")
    try:
        task = plan([stem], modality, with_train=True, with_timing=True, with_prompts=True)[0]
    except UnknownName as error:
        near = UnknownName("metric", name, known)
        # Of what is in the record, a near one is the better hint: it can be judged.
        raise (near if "did you mean" in str(near) else error) from error
    except ModalityMismatch as error:
        raise ModalityMismatch(f"gate: {error}") from error
    return f"{task.label}{'.' if task.part else ''}{task.part or ''}{mark}{group}"


def relatives(name: str, known: Collection[str]) -> tuple[str, ...]:
    """Names in the record that a missing one may have meant: its parts, its whole, or its metric on another instrument.

    At most three, in the record's order.
    """
    metric = name.partition("@")[0].partition(".")[0]
    return tuple(other for other in known if other.partition("@")[0].partition(".")[0] == metric)[:3]
