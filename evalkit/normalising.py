"""Both sides of a comparison re-encoded alike, so that what is told apart is the pictures and not how they were stored.

One plan is made from all sides together: the central square of each image, brought down to one side with one kernel
(never enlarged: interpolation is itself a trace), and one JPEG of one quality. Quality and side are those that nine of
ten images of every side have: the worst file of a set must not decide for all, and with a median half of a set would
have to go. Images under that side are left out and counted.

What it cannot do: an image that was compressed hard before it was cropped or resized keeps that loss, whatever codec
follows and whatever its header says. A smaller side than the sets ask for (`side=`) averages much of it away;
docs/stress.md has measurements.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .errors import BadSetting, ModalityMismatch, NothingToEvaluate, UnreadableSample
from .laundering import jpeg, resized
from .samples import ListedSet, select
from .samples._transformed import transformed
from .types import MediaFacts, Sample, SampleSet

if TYPE_CHECKING:
    from .laundering import Pixels

VERSION = 1
HIGHEST_QUALITY = 90
# A codec works on blocks of 8 and chroma blocks of 16 pixels: of a tiny image that never was a file it leaves little.
TINY = 32
# Which of a side's sorted sides and qualities is asked of the rest.
SHARE_LEFT_OUT = 0.1


@dataclass(frozen=True)
class Plan:
    """What every image of every side goes through: central square, Lanczos to `side` pixels, JPEG `quality` at 4:2:0.

    quality None: no codec.
    """

    side: int
    quality: int | None

    @property
    def words(self) -> str:
        """The plan in words; they stand in the protocol of every number that was measured behind it."""
        codec = "no codec" if self.quality is None else f"JPEG {self.quality} at 4:2:0"
        return f"normalised/{VERSION}: central square, Lanczos down to {self.side} x {self.side}, {codec}"


@dataclass(frozen=True)
class Normalised:
    """Both sides behind one plan; `left_out` counts, a side, the images too small for it or unreadable."""

    real: ListedSet
    fakes: tuple[ListedSet, ...]
    plan: Plan
    left_out: tuple[int, ...]

    @property
    def words(self) -> str:
        """What was done, with the counts of what was left out."""
        names = [samples.name for samples in (self.real, *self.fakes)]
        gone = [f"{n} of {name!r}" for name, n in zip(names, self.left_out, strict=True) if n]
        return f"{self.plan.words}; left out as smaller or unreadable: {', '.join(gone) or 'none'}"


def plan_for(sets: Sequence[SampleSet], *, side: int | None = None, quality: int | None = None) -> Plan:
    """The plan that suits all sets: the side and the JPEG quality that nine of ten images of each have, 90 at most.

    side: pixels, where a smaller one than that is wanted. quality: likewise, 1 to 100. Formats that tell no quality
    bear any. Raises ModalityMismatch for texts, NothingToEvaluate for a set without a readable image, BadSetting when
    side or quality is out of range.
    """
    return _plan(sets, [_looks(samples) for samples in sets], side, quality)


def normalised(real: SampleSet, *fakes: SampleSet, plan: Plan | None = None) -> Normalised:
    """Every side through one plan, by default `plan_for` all of them; samples keep id, group and order.

    Raises as `plan_for` does, and NothingToEvaluate when the plan leaves nothing of a side.
    """
    sets = (real, *fakes)
    looks = [_looks(samples) for samples in sets]
    plan = _plan(sets, looks, None, None) if plan is None else plan
    done, left_out = [], []
    for samples, look in zip(sets, looks, strict=True):
        keep = [i for i, seen in enumerate(look) if seen is not None and seen.side >= plan.side]
        if not keep:
            raise NothingToEvaluate(f"{samples.name!r} has no image of {plan.side} pixels a side; give a smaller side")
        left_out.append(len(look) - len(keep))
        change = partial(_change, side=plan.side, quality=plan.quality)
        done.append(transformed(select(samples, keep), change, plan.words, name=samples.name))
    return Normalised(done[0], tuple(done[1:]), plan, tuple(left_out))


@dataclass(frozen=True)
class _Look:
    side: int
    quality: int | None
    is_file: bool


def _looks(samples: SampleSet) -> list[_Look | None]:
    """Shorter side and quality of every sample, from its header where it has one; None where it cannot be read."""
    if samples.modality != "image":
        raise ModalityMismatch(f"{samples.name!r} holds {samples.modality}s; only images can be normalised")
    found = [_look(sample) for sample in samples]
    if not any(found):
        raise NothingToEvaluate(f"{samples.name!r} has no readable image")
    return found


def _look(sample: Sample) -> _Look | None:
    with suppress(UnreadableSample):
        if sample.facts is not None:
            facts: MediaFacts = sample.facts()
            return _Look(min(facts.width, facts.height), facts.quality, True)
        image = sample.load()
        assert not isinstance(image, str)
        return _Look(min(image.shape[:2]), None, False)
    return None


def _plan(
    sets: Sequence[SampleSet], looks: Sequence[Sequence[_Look | None]], side: int | None, quality: int | None
) -> Plan:
    seen = [[look for look in of_set if look is not None] for of_set in looks]
    common = min(_lower(look.side for look in of_set) for of_set in seen)
    if side is not None and not 1 <= side <= common:
        names = ", ".join(repr(samples.name) for samples in sets)
        raise BadSetting(f"side {side}; {names} allow 1 to {common} without enlarging")
    chosen = common if side is None else side
    if quality is not None and not 1 <= quality <= 100:
        raise BadSetting(f"quality {quality}; JPEG knows 1 to 100")
    if quality is None:
        known = [[look.quality for look in of_set if look.quality is not None] for of_set in seen]
        lowest = min([HIGHEST_QUALITY, *(_lower(q) for q in known if q)])
        has_files = any(look.is_file for of_set in seen for look in of_set)
        quality = lowest if chosen >= TINY or has_files else None
    return Plan(chosen, quality)


def _lower(values: Iterable[int]) -> int:
    """The value that all but the lowest tenth have."""
    ordered = sorted(values)
    return ordered[int(SHARE_LEFT_OUT * len(ordered))]


def _change(image: Pixels, seed: int, *, side: int, quality: int | None) -> Pixels:
    height, width = image.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = image[top : top + edge, left : left + edge].copy()
    # The same size passes through untouched: Lanczos at factor 1 is the identity.
    sized = square if edge == side else resized(square, side, side)
    return sized if quality is None else jpeg(sized, quality)
