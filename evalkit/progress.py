"""Progress on stderr: at a terminal task, share, rate and time left; elsewhere two lines for a task that takes long.

A log is read afterwards, so short tasks leave nothing in it: only a task that has run for ten seconds says how long it
will take, measured on its own first steps, and then when it is done.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


SAYS_AFTER = 10.0  # seconds


@dataclass
class Plain:
    """A task that is told in plain lines."""

    task: str
    total: int
    began: float
    done: int = 0
    told: bool = False
    # When the first advance came and how far it went: what is made ready once must not count for every step.
    first: tuple[float, int] = (0.0, 0)


class TerminalProgress:
    """At a terminal one line that is rewritten while a task runs; elsewhere a line soon after a long task's start, with
    how many steps and about how long, and one at its end. quiet: neither. clock: seconds, for tests.
    """

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.enabled = not quiet and sys.stderr.isatty()
        self._clock, self._quiet = clock, quiet
        self._plain: Plain | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def start(self, task: str, total: int) -> None:
        """Begin a task of `total` steps."""
        if not self.enabled:
            self._plain = None if self._quiet else Plain(_clean(task), total, self._clock())
            return
        if self._bar is None:
            self._bar = _bar()
            self._bar.start()
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(_clean(task), total=total)

    def advance(self, n: int = 1) -> None:
        """n more steps are done."""
        if self._plain is not None:
            self._plain.done += n
            self._foretell(self._plain)
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, n)

    def finish(self) -> None:
        """The task is done."""
        if self._plain is not None and self._plain.told:
            plain = self._plain
            end = "done" if plain.done >= plain.total else f"stopped at {plain.done:,} of {plain.total:,} steps"
            _say(f"{plain.task}: {end} after {_duration(self._clock() - plain.began)}")
        self._plain = None
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def _foretell(self, plain: Plain) -> None:
        """Say once how long a task takes, as soon as it is known to take long."""
        now = self._clock()
        if not plain.first[1]:
            plain.first = now, plain.done
        since, before = plain.first
        if plain.told or now - plain.began < SAYS_AFTER or not before < plain.done < plain.total:
            return
        plain.told = True
        about = _duration(since - plain.began + (now - since) * (plain.total - before) / (plain.done - before))
        _say(f"{plain.task}: {plain.total:,} steps, about {about} in all; {plain.done:,} done")

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min" if minutes >= 10 else f"{minutes} min {rest} s"


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Steps per second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f}/s")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _clean(text: str) -> str:
    """Text without control characters: names come from users' files."""
    return "".join(c if c.isprintable() else "?" for c in text)[:80]
