"""Who stands on a board: an entrant with its samples, and the same entrant once it is measured, judged and scored."""

from __future__ import annotations

from dataclasses import dataclass

from .detection import Judge, Lesson
from .evaluation import Sides
from .types import Generator, Role, RunRecord, SampleSet, Timing


@dataclass(frozen=True)
class Entrant:
    """A subject with its samples, and what is known of where they came from and what judges may learn from.

    model: what tells the fitted generator from another of its recipe and data. repeats: of which entrant this is a run
    with other seeds; such runs are scored but have no row of their own. seeds: which training and which sampling seed.
    """

    name: str
    samples: SampleSet
    source: str
    role: Role = "candidate"
    timing: Timing | None = None
    generator: Generator | None = None
    model: str = ""
    repeats: str = ""
    seeds: tuple[int, int] = (0, 0)
    lesson: Lesson | None = None


@dataclass(frozen=True)
class Scored:
    """One entrant with everything the exhibits draw from."""

    entrant: Entrant
    sides: Sides
    record: RunRecord

    @property
    def judges(self) -> dict[str, Judge]:
        """The judges that could be fitted."""
        return {name: j for name, j in self.sides.judges.items() if isinstance(j, Judge)}
