"""A metric at work: its values by part, each with an interval, worked out on the GPU where the rows find room there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .errors import UnknownName
from .hardware import is_out_of_memory
from .measurement import taken
from .planning import Task
from .resample import group_jackknife
from .samples import select
from .types import Estimate, Features, Moments, Part, SampleSet, Value

if TYPE_CHECKING:
    from torch import Tensor

# Rows may take a quarter of a GPU's free memory: what a metric makes of them lies beside them.
ROOM = 0.25


def estimated(task: Task, inputs: Mapping[str, Any], device: str) -> dict[str, Estimate]:
    """The metric's values by part ("" for its only one), each with an interval: its own, or by resampling rows.

    On a cuda device where the rows fit with room to spare, and on the CPU where it turns out that they do not.
    Raises UnknownName when the task asks for a part that the metric does not have, and what the metric raises.
    """
    if fits(inputs, device):
        try:
            found = _estimates(task, moved(inputs, device))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        else:
            return {part: _brought_back(estimate) for part, estimate in found.items()}
    return _estimates(task, inputs)


def fits(inputs: Mapping[str, Any], device: str) -> bool:
    """Whether the device is a GPU of which the rows take less than a quarter of the free memory."""
    import torch

    if not device.startswith("cuda"):
        return False
    rows = [given.rows for given in inputs.values() if isinstance(given, Features)]
    return sum(r.numel() * r.element_size() for r in rows) < ROOM * torch.cuda.mem_get_info(device)[0]


def moved(inputs: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The inputs with rows and moments on the device; samples and timings as they are."""
    return {word: _moved(given, device) if isinstance(given, Features) else given for word, given in inputs.items()}


def _moved(side: Features, device: str) -> Features:
    known = side.moments
    if known is not None:
        known = Moments(known.mean.to(device), known.covariance.to(device), known.n)
    return replace(side, rows=side.rows.to(device), moments=known)


def _brought_back(estimate: Estimate) -> Estimate:
    shares, moves = estimate.per_sample, estimate.moves
    return replace(
        estimate,
        per_sample=None if shares is None else shares.cpu(),
        moves=None if moves is None else {side: moved.cpu() for side, moved in moves.items()},
    )


def _estimates(task: Task, inputs: Mapping[str, Any]) -> dict[str, Estimate]:
    """The metric's values by part ("" for its only one), each with an interval: its own, or by resampling rows.

    A part given as a call is made only when it is asked for by name.
    """
    values = _asked(task, task.metric.fn(*inputs.values(), **task.settings))
    bare = {part: v for part, v in values.items() if not isinstance(v, Estimate)}
    if not bare:
        return {part: v for part, v in values.items() if isinstance(v, Estimate)}
    # Real and generated samples are draws; the training data is what it is.
    sides = [word for word in ("real", "fake", "samples", "prompts") if word in inputs]
    moving = [sides[:1], [s for s in sides if s != "real"]] if "real" in sides else [sides]
    moving = [group for group in moving if group]

    def statistic(keeps: Sequence[Tensor]) -> Mapping[str, float]:
        chosen = dict(inputs)
        for group, keep in zip(moving, keeps, strict=True):
            for word in group:
                chosen[word] = _take(inputs[word], keep)
        again = _asked(task, task.metric.fn(*chosen.values(), **task.settings))
        return {part: _number(v) for part, v in again.items() if part in bare}

    names = ["real" if group == ["real"] else "fake" for group in moving]
    resampled = group_jackknife(statistic, [len(inputs[group[0]]) for group in moving], names=names)
    return {part: v if isinstance(v, Estimate) else resampled[part] for part, v in values.items()}


def _asked(task: Task, found: Value | Mapping[str, Part]) -> dict[str, Value]:
    """The parts the task reports; UnknownName when it asks for one that the metric does not have."""
    parts: Mapping[str, Part] = found if isinstance(found, Mapping) else {"": found}
    if task.part is None:
        return {part: value for part, value in parts.items() if not callable(value)}
    if task.part not in parts:
        raise UnknownName(f"part of {task.label}", task.part, [part for part in parts if part])
    value = parts[task.part]
    return {task.part: value() if callable(value) else value}


def _number(value: Value) -> float:
    return value.value if isinstance(value, Estimate) else float(value)


def _take(side: Features | SampleSet, keep: Tensor) -> Features | SampleSet:
    where = keep.tolist()
    return taken(side, where) if isinstance(side, Features) else select(side, where)
