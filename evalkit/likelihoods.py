"""Generators that know how probable a sample is: as instruments (`bits_per_dim@realnvp`), and of the real data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .cache import digest_of
from .errors import DoesNotApply, EvalkitError, RunFailed, UsageError
from .extractors.causal.columns import SINGLE_HEADS, single_row, slices
from .extractors.causal.streaming import Given, token_statistics
from .measurement import Bench, measure
from .types import Features, Generator, Likely, Modality, SampleSet, Tokenwise

if TYPE_CHECKING:
    from torch import Tensor

    from .planning import Task
    from .types import Media


class LikelihoodOf:
    """A fitted generator as an instrument: one row of (nats, units, bytes) a sample.

    A language model that knows every next token's probability has the heads of a causal language model too: zero_shot
    and surprisal, of the tokens it has; a character outside its alphabet costs nats, but is no token of theirs.

    model: what tells this fitted model from another of its recipe and data. UsageError for a generator that knows no
    likelihood.
    """

    def __init__(self, generator: Generator, model: str) -> None:
        if not isinstance(generator, Likely):
            raise UsageError(f"{generator.name} draws samples but does not know how probable they are")
        self._generator: Likely = generator
        self._to = generator.to
        self.name: str = generator.name
        self.modality: Modality = generator.modality
        self._tokens = generator if isinstance(generator, Tokenwise) else None
        self.heads: Mapping[str, slice] = {"likelihood": slice(0, 3)} if self._tokens is None else slices(SINGLE_HEADS)
        told = [] if self._tokens is None else ["token statistics"]
        self.digest = digest_of("likelihood", generator.recipe, generator.trained_on, model, *told)
        self.about = {"generator": generator.name, "learned from": generator.trained_on, "model": model}

    def prepare(self, sample: Media) -> Tensor:
        return self._generator.prepare(sample)

    def to(self, device: str) -> None:
        self._to(device)

    def __call__(self, batch: Tensor) -> Tensor:
        return self._generator.likelihood(batch) if self._tokens is None else self._told(self._tokens, batch)

    def _told(self, model: Tokenwise, batch: Tensor) -> Tensor:
        """Rows [B, 36] from one forward: the likelihood with its escapes, then what the tokens' statistics say."""
        import torch

        found = [token_statistics(Given(logits), tokens) for logits, tokens in model.next_tokens(batch)]
        nats = torch.stack([-series.log_p.double().sum() for series in found]).cpu()
        likelihood = model.likelihood(batch, nats)
        rows = [
            single_row(type(series)(*(part.cpu() for part in series)), int(size))
            for series, size in zip(found, likelihood[:, 2], strict=True)
        ]
        return torch.cat([likelihood, torch.stack(rows)[:, 3:]], 1)


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
