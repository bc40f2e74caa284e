"""A model of your own, as a command: run once for the samples asked for, which it writes into a folder.

- "python my_model.py --n {n} --seed {seed} --out {out}": split into words as a shell would, and no shell runs it. Then
  {n}, {seed} and {out} are filled in, so that a path with a blank in it stays one word. Nothing else in braces is
  touched.
- What it writes into {out} is read as samples, in the order of their names: .png, .jpg, .jpeg and .webp, or .txt; where
  every file lies in a folder below, that folder is its label. Of more than n the first n are taken; fewer fail.
- Same seed, same samples is the command's own duty, and so is loading its model quickly: it starts anew for every call.
- It runs in a process group of its own, which is ended with it: no worker outlives a timeout, an interruption or the
  command itself. The folder goes when its samples are read.
- Its identity is the words of the command and the content of the files that they name.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, cast

import torch

from evalkit.errors import BadSetting, BadSource, RunFailed
from evalkit.types import Batch, Control, Modality

from ._external import External, Files, line_of
from ._family import BATCH

# Of what a command says on stderr, the end is read.
STDERR_BYTES = 65_536


class Command(External):
    """Samples that a command writes each time it is run."""

    name = "command"
    costly = True
    modality: Modality = "image"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("command", "", "what to run, with {n}, {seed} and {out} where the values go"),
        Control("modality", "image", "what it writes: image or text", choices=("image", "text")),
        Control("timeout", 3600.0, "seconds after which a run is ended", 0.01, 1_000_000),
    )

    def __init__(self, **controls: int | float | str) -> None:
        super().__init__(**controls)
        self.modality = cast("Modality", self._settings["modality"])

    def _ready(self) -> None:
        words = self._words()
        if not words:
            raise BadSetting('command.command is empty; expected e.g. "python my.py --n {n} --seed {seed} --out {out}"')
        if not any("{out}" in word for word in words):
            raise BadSetting(f"command.command = {self._settings['command']!r} lacks {{out}}, where samples must go")
        if shutil.which(words[0]) is None:
            raise BadSetting(f"command.command starts with {words[0]!r}, which is not a program; give its whole path")

    def _words(self) -> list[str]:
        try:
            return shlex.split(str(self._settings["command"]))
        except ValueError as e:
            raise BadSetting(f"command.command = {self._settings['command']!r} cannot be split into words: {e}") from e

    def _named_files(self) -> Mapping[str, Path]:
        with suppress(BadSetting):
            return {word: Path(word) for word in self._words() if "\0" not in word and Path(word).is_file()}
        return {}

    def _batches(self, n: int, seed: int) -> Iterator[Batch]:
        with TemporaryDirectory(prefix="evalkit-command-", ignore_cleanup_errors=True) as home:
            out, said = Path(home, "out"), Path(home, "stderr")
            out.mkdir()
            self._run(n, seed, out, said)
            files = Files(out, self.modality)
            if len(files) < n:
                raise RunFailed(
                    f"the command wrote {len(files)} {self.modality} files into its folder, expected {n}; "
                    f"make it write as many as {{n}} says"
                )
            for start in range(0, n, BATCH):
                try:
                    batch = files.batch(range(start, min(start + BATCH, n)))
                except BadSource as e:
                    raise RunFailed(f"the command wrote what is no sample: {e}") from e
                yield batch

    def _run(self, n: int, seed: int, out: Path, said: Path) -> None:
        """Run the command to its end; RunFailed with the last line of its stderr when that is not a good one."""
        values = {"{n}": str(n), "{seed}": str(seed), "{out}": str(out)}
        words = self._words()
        for place, value in values.items():
            words = [word.replace(place, value) for word in words]
        timeout = float(self._settings["timeout"])
        with said.open("wb") as stderr:
            null = subprocess.DEVNULL
            try:
                process = subprocess.Popen(words, stdin=null, stdout=null, stderr=stderr, start_new_session=True)
            except (OSError, ValueError) as e:
                raise RunFailed(f"the command {words[0]!r} cannot be started: {line_of(e)}") from e
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise RunFailed(
                    f"the command {words[0]!r} had not ended after {timeout:g} seconds and was killed; "
                    "raise command.timeout or ask for fewer samples"
                ) from None
            finally:
                _end(process)
        if code:
            how = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
            raise RunFailed(f"the command {words[0]!r} failed ({how}): {_last_line(said)}")

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        raise RunFailed("a command makes all its samples at once; ask for them with sample")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process group, on success too: a worker left behind would go on writing."""
    # macOS says PermissionError of a group of which only the dead are left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(said: Path) -> str:
    with said.open("rb") as file:
        file.seek(max(0, said.stat().st_size - STDERR_BYTES))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return line_of(lines[-1]) if lines else "it said nothing on stderr"
