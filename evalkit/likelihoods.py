"""Generators that know how probable a sample is: as instruments (`bits_per_dim@realnvp`), and of the real data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .cache import digest_of
from .errors import DoesNotApply, EvalkitError, RunFailed, UsageError
from .measurement import Bench, measure
from .types import Features, Generator, Likely, Modality, SampleSet

if TYPE_CHECKING:
    from torch import Tensor

    from .planning import Task
    from .types import Media


class LikelihoodOf:
    """A fitted generator as an instrument: one row of (nats, units, bytes) a sample.

    model: what tells this fitted model from another of its recipe and data. UsageError for a generator that knows no
    likelihood.
    """

    heads: Mapping[str, slice] = {"likelihood": slice(0, 3)}

    def __init__(self, generator: Generator, model: str) -> None:
        if not isinstance(generator, Likely):
            raise UsageError(f"{generator.name} draws samples but does not know how probable they are")
        self._generator: Likely = generator
        self._to = generator.to
        self.name: str = generator.name
        self.modality: Modality = generator.modality
        self.digest = digest_of("likelihood", generator.recipe, generator.trained_on, model)
        self.about = {"generator": generator.name, "learned from": generator.trained_on, "model": model}

    def prepare(self, sample: Media) -> Tensor:
        return self._generator.prepare(sample)

    def to(self, device: str) -> None:
        self._to(device)

    def __call__(self, batch: Tensor) -> Tensor:
        return self._generator.likelihood(batch)


def own_likelihood(
    tasks: Iterable[Task], generator: Generator | None, model: str, real: SampleSet, bench: Bench
) -> Features | EvalkitError | None:
    """How probable a subject finds the real samples; why it cannot tell; None when no task asks."""
    if not any("own" in task.metric.asks for task in tasks):
        return None
    knows = isinstance(generator, Likely)
    if generator is None or not knows:
        return DoesNotApply("this model does not know how probable a sample is")
    try:
        return measure(real, [LikelihoodOf(generator, model)], bench).features[generator.name]
    except (UsageError, RunFailed) as error:
        return error
