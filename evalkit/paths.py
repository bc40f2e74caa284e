"""Short steps through a generator's latent space: pairs of images, one small step of the code apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .errors import BadSetting, EvalkitError, RunFailed, UnreadableSample, UsageError
from .hardware import derive_seed
from .measurement import Bench, measure_unrounded
from .planning import Task
from .samples import ListedSet
from .types import Extractor, Features, Generator, Latent, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from .types import Media

# Codes decoded at once. Generators take their classes in turn by position: 120 has the most divisors of its size.
CODES = 120


@dataclass(frozen=True)
class Walk:
    """How the steps are drawn: `pairs` of them, each `epsilon` of the way from one code to another.

    along: "full" takes each step anywhere on the way (t uniform in [0, 1)), "ends" at its start (t = 0).
    between: "slerp" keeps to the sphere that Gaussian codes lie near, "lerp" goes straight.
    """

    pairs: int
    epsilon: float
    along: str
    between: str

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Walk:
        """The walk that a metric's settings ask for; BadSetting for a value out of range."""
        walk = cls(*(settings[key] for key in ("pairs", "epsilon", "along", "between")))
        if not isinstance(walk.pairs, int) or walk.pairs < 2:
            raise BadSetting(f"pairs is {walk.pairs!r}; expected a whole number, at least 2")
        if not isinstance(walk.epsilon, int | float) or not 0 < walk.epsilon < 1:
            raise BadSetting(f"epsilon is {walk.epsilon!r}; expected a number above 0 and below 1")
        if walk.along not in ("full", "ends"):
            raise BadSetting(f"along is {walk.along!r}; expected full or ends")
        if walk.between not in ("slerp", "lerp"):
            raise BadSetting(f"between is {walk.between!r}; expected slerp or lerp")
        return walk

    @property
    def says(self) -> str:
        where = "anywhere on the way" if self.along == "full" else "at the start of the way"
        return f"{self.pairs} steps of {self.epsilon:g}, {where}, {self.between} between codes"


def measure_paths(
    tasks: Iterable[Task],
    made: Mapping[str, Extractor],
    generator: Generator | None,
    name: str,
    *,
    seed: int,
    bench: Bench,
) -> dict[str, Features | EvalkitError]:
    """For every task that asks for paths, by its label: their rows, or why there are none.

    Raises BadSetting when a task's settings describe no walk.
    """
    found: dict[str, Features | EvalkitError] = {}
    for task in tasks:
        if "paths" in task.metric.asks and task.label not in found:
            walk = Walk.of(task.settings)
            try:
                found[task.label] = _measured(walk, made[str(task.instrument)], generator, name, seed, bench)
            except (UsageError, RunFailed) as error:
                found[task.label] = error
    return found


def steps(start: Tensor, goal: Tensor, t: Tensor, walk: Walk) -> tuple[Tensor, Tensor]:
    """The codes at t and at t + epsilon of the way from start to goal, each [N, size] float64; t [N, 1] in [0, 1)."""
    between = slerp if walk.between == "slerp" else lerp
    start, goal, t = start.double(), goal.double(), t.double()
    return between(start, goal, t), between(start, goal, t + walk.epsilon)


def lerp(start: Tensor, goal: Tensor, t: Tensor) -> Tensor:
    """The point at the share t [N, 1] of the straight way, [N, size]."""
    return start + (goal - start) * t


def slerp(start: Tensor, goal: Tensor, t: Tensor) -> Tensor:
    """The point at the share t [N, 1] of the way around the origin, [N, size]; straight where the two lie on one line.

    Shoemake 1985, section 3.3, with the angle between the two directions and their own lengths kept at the ends.
    """
    import torch

    cosine = torch.cosine_similarity(start, goal, dim=-1)[:, None].clamp(-1, 1)
    angle = cosine.acos()
    # On one line there is no plane to turn in, and sin(angle) is 0.
    flat = cosine.abs() > 1 - 1e-7
    sine = angle.sin().where(~flat, 1.0)
    turned = ((1 - t) * angle).sin() / sine * start + (t * angle).sin() / sine * goal
    return turned.where(~flat, lerp(start, goal, t))


def _measured(walk: Walk, instrument: Extractor, generator: Any, name: str, seed: int, bench: Bench) -> Features:
    """Rows [2 pairs, D]: 2 i and 2 i + 1 are the ends of step i."""
    own, recipe = derive_seed(seed, "paths"), getattr(generator, "recipe", "")
    if not isinstance(generator, Latent):
        raise UsageError(f"{name} has no latent space")
    listed = _named(walk, recipe, name, own)
    rows = measure_unrounded(listed, _images(walk, generator, own), instrument, bench)
    return replace(rows, about={**rows.about, "paths": walk.says})


def _images(walk: Walk, generator: Latent, seed: int) -> Iterator[Tensor]:
    """Batches float32 [2 B, 3, H, W], the ends of a step behind one another."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    for begin in range(0, walk.pairs, CODES):
        count = min(CODES, walk.pairs - begin)
        codes = torch.randn(2, count, generator.latent_size, generator=rng, dtype=torch.float64)
        t = torch.rand(count, 1, generator=rng, dtype=torch.float64) * (walk.along == "full")
        # One call an end, so that both ends of a step have one position, and with it one class.
        ends = [generator.decode(end.float()) for end in steps(codes[0], codes[1], t, walk)]
        yield torch.stack(ends, dim=1).flatten(0, 1)


def _named(walk: Walk, recipe: str, name: str, seed: int) -> ListedSet:
    """The ends of the steps as a set of samples that nobody keeps."""

    def gone() -> Media:
        raise UnreadableSample("a point between samples, measured and not kept")

    samples = []
    for i in range(2 * walk.pairs):
        digest = hashlib.sha256(f"{recipe}/{walk.says}/{seed}/{i}".encode()).hexdigest()
        samples.append(Sample(f"step {i // 2} {'to' if i % 2 else 'from'}", digest, gone))
    return ListedSet(f"{name}: paths", "image", tuple(samples), "paths")
