"""A metric and what it says: a pure function with its facts declared beside it, a value with its interval."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Better: TypeAlias = Literal["lower", "higher"]

ASKS = ("real", "fake", "train", "prompts", "samples", "timing", "paths", "own")


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its interval and the name of the method that made them.

    per_sample [M]: what each generated sample adds to the value, where the metric knows it: its influence (FID) or its
    own score (realism, CLIPScore). moves: by side ("real", "fake"), [n] how far each sample of it moves the value, to
    first order: centred, and their squares over all sides add up to about the variance of the value. "draws" where a
    method disturbs both sides at once, such as split halves. Two subjects measured against the same samples are
    compared through them.
    """

    value: float
    low: float
    high: float
    method: str
    level: float = 0.95
    per_sample: Tensor | None = field(default=None, compare=False, repr=False)
    moves: Mapping[str, Tensor] | None = field(default=None, compare=False, repr=False)


Value: TypeAlias = "float | Estimate"
# A part given as a call is made only when it is asked for by name.
Part: TypeAlias = "Value | Callable[[], Value]"


@dataclass(frozen=True)
class Metric:
    """A pure function of rows with the facts declared beside it; made by the `metric` decorator."""

    name: str
    fn: Callable[..., Value | Mapping[str, Part]]
    asks: tuple[str, ...]
    on: Mapping[str, str | None]
    reads: str
    better: Better
    unit: str
    version: int
    min_n: int
    params: Mapping[str, Any]
    resample: str
    moments: bool = False
    caution: str = ""
    requires: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __call__(self, *args: Any, **settings: Any) -> Value | Mapping[str, Part]:
        return self.fn(*args, **settings)


def metric(
    *,
    on: str | Mapping[str, str | None] | None,
    better: Better,
    unit: str,
    version: int = 1,
    reads: str = "features",
    min_n: int = 2,
    resample: str = "jackknife",
    moments: bool = False,
    caution: str = "",
    requires: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> Callable[[Callable[..., Value | Mapping[str, Part]]], Metric]:
    """Make a Metric of a function whose positional parameters say what it asks for.

    on: the default instrument, per modality where it differs; None where no instrument is needed.
    reads: the head of a row it uses. min_n: the fewest samples a side may have.
    resample: how the caller makes an interval when the function returns a bare number.
    moments: whether a side may be a statistics file, of which only mean and covariance are known.
    caution: what every record that holds it has to say of it.
    requires: part -> a fact that its instrument has to tell under `about` ("none" counts as not told), and the sentence
    with which the part is refused, before anything is measured, on an instrument that does not.
    Raises TypeError at import when a parameter is not one of `real fake train prompts samples timing
    paths own`.
    """

    def make(fn: Callable[..., Value | Mapping[str, Part]]) -> Metric:
        asks, params = [], {}
        for p in inspect.signature(fn).parameters.values():
            if p.kind is p.KEYWORD_ONLY:
                params[p.name] = p.default
            elif p.name in ASKS:
                asks.append(p.name)
            else:
                raise TypeError(f"metric {fn.__name__!r} asks for {p.name!r}; it may ask for {', '.join(ASKS)}")
        where = on if isinstance(on, Mapping) else {"image": on, "text": on}
        return Metric(
            name=fn.__name__,
            fn=fn,
            asks=tuple(asks),
            on=MappingProxyType(dict(where)),
            reads=reads,
            better=better,
            unit=unit,
            version=version,
            min_n=min_n,
            params=MappingProxyType(params),
            resample=resample,
            moments=moments,
            caution=caution,
            requires=MappingProxyType(dict(requires)),
        )

    return make


@dataclass(frozen=True)
class Moves:
    """How far the draw of one side moves a number, so that two numbers that share the side can be told apart better.

    key: equal in two results where the same place holds the same sample (a reference row, a prompt, a seed). share: of
    the number's variance, 0..1. parts: how far the samples of each bucket move the number, whole thousandths of the
    largest; which sample falls into which bucket depends on its place and the side's size only.
    """

    key: str
    share: float
    parts: tuple[int, ...]


@dataclass(frozen=True)
class MetricResult:
    """One number of a record; `protocol` is the sha256 of `terms`, everything that must be equal to compare it."""

    name: str
    value: float
    low: float
    high: float
    level: float
    interval: str
    better: Better
    unit: str
    n: Mapping[str, int]
    version: int
    protocol: str
    terms: Mapping[str, Any]
    seconds: float
    moves: Mapping[str, Moves] = field(default_factory=dict)
