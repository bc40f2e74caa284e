"""A model of your own, as the samples it has already made: images or texts that lie in a folder.

- Samples are dealt in a seeded order, each at most once: to be asked for more than there are is an error, not a repeat.
- It takes the same seat on a board as any generator, but its speed is that of reading files and says nothing of the
  model that made them.
- Its identity is the content of the files, not the path: a folder that has changed is another generator.
- Read are .png, .jpg, .jpeg and .webp, or .txt, in folders below too; where every file lies in one, that is its label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, cast

import torch

from evalkit.errors import BadSetting, BadSource, TooFewSamples
from evalkit.types import Batch, Control, Modality, Progress, SampleSet

from ._external import SUFFIXES, External, Files


class Folder(External):
    """Samples that another program has written into a folder."""

    name = "folder"
    modality: Modality = "image"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("path", "", "folder that the samples lie in"),
        Control("modality", "image", "what the samples are: image or text", choices=("image", "text")),
    )

    _files: Files | None = None

    def __init__(self, **controls: int | float | str) -> None:
        super().__init__(**controls)
        self.modality = cast("Modality", self._settings["modality"])

    def sample(self, n: int, seed: int) -> Iterator[Batch]:
        """n different samples of the folder; raises TooFewSamples when it holds fewer."""
        batches = super().sample(n, seed)
        held = len(self._listed())
        if n > held:
            raise TooFewSamples(
                f"{n} samples asked of {self.name}, {self._settings['path']} holds {held}; "
                f"ask for {held} or fewer, or write more"
            )
        return batches

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        # What was written since is part of it.
        self._files = None
        return super()._learn(samples, seed, device, progress)

    def _listed(self) -> Files:
        self._files = self._files or Files(Path(str(self._settings["path"])), self.modality)
        return self._files

    def _ready(self) -> None:
        path = str(self._settings["path"])
        if not path:
            raise BadSetting("folder.path is empty; give the folder that the samples lie in: --set path=DIR")
        if not Path(path).is_dir():
            raise BadSource(f"folder.path = {path!r} is not a folder; give the folder that the samples lie in")
        if not len(self._listed()):
            raise BadSource(
                f"{path} holds no {self.modality} files ({' '.join(SUFFIXES[self.modality])}); "
                "choose another folder or set modality"
            )

    def _named_files(self) -> Mapping[str, Path]:
        if not self._settings["path"]:
            return {}
        files = self._listed()
        return {p.relative_to(files.folder).as_posix(): p for p in files.paths}

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        files = self._listed()
        # One order for the whole call, whichever batch asks for it.
        order = torch.randperm(len(files), generator=torch.Generator().manual_seed(rng.initial_seed()))
        return files.batch(order[start : start + count].tolist())
