"""What models made elsewhere share: nothing is learnt, their own files are their identity, what they wrote is read.

Nothing that comes from outside is trusted: images are decoded by three decoders only and up to a size, texts up to a
length, and an error shows one printable line of what another program said.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evalkit.errors import BadSetting, BadSource
from evalkit.types import Batch, Modality, Progress, SampleSet

from ._family import Family

SUFFIXES: Mapping[Modality, tuple[str, ...]] = {"image": (".png", ".jpg", ".jpeg", ".webp"), "text": (".txt",)}
FORMATS = ("PNG", "JPEG", "WEBP")
# 64 megapixels decode to 192 MB; a file of some kB can claim more.
MOST_PIXELS = 64_000_000
MOST_IMAGE_BYTES = 256_000_000
MOST_TEXT_BYTES = 1_000_000


class External(Family):
    """A model that evalkit did not train: `fit` notes what the board's models learn from and checks the settings."""

    role = "candidate"
    _identity: str | None = None

    @property
    def recipe(self) -> str:
        """sha256 of the controls and of the content of every file on this machine that they name."""
        if self._identity is None:
            self._identity = fingerprint(self._named_files())
        terms = [super().recipe, self._identity]
        return "sha256:" + hashlib.sha256(json.dumps(terms).encode()).hexdigest()

    def sample(self, n: int, seed: int) -> Iterator[Batch]:
        """n samples in batches of at most 64; raises BadSetting, BadSource or RunFailed for a model not to be had."""
        batches = super().sample(n, seed)
        self._ready()
        return batches

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        self._identity = None
        self._ready()
        self.to(device)
        return 0

    def _tensors(self) -> dict[str, Tensor]:
        # A model folder always has a model file; this one has nothing to hold.
        return {"nothing": torch.zeros(0)}

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Nothing was kept."""

    def _named_files(self) -> Mapping[str, Path]:
        """Files whose content decides what the samples are, by name."""
        return {}

    @abstractmethod
    def _ready(self) -> None:
        """Raise one line saying what is missing before the model can be asked; called before `fit` and `sample`."""


# ---------------------------------------------------------------------------------------------- samples in files


def listed(folder: Path, modality: Modality) -> list[Path]:
    """Every image or text under a folder, ordered by its path; nothing hidden, only plain files."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES[modality] and p.is_file())
    inside = {p.relative_to(folder): p for p in found}
    visible = [r for r in inside if not any(part.startswith(".") for part in r.parts)]
    return [inside[r] for r in sorted(visible, key=Path.as_posix)]


class Files:
    """The samples of one folder, read when asked for; images must all be of one size."""

    def __init__(self, folder: Path, modality: Modality) -> None:
        self.folder, self.modality = folder, modality
        self.paths = listed(folder, modality)
        names = [p.parent.name if p.parent != folder else "" for p in self.paths]
        # The folder a file lies in is its label, where every file lies in one.
        self.groups = names if all(names) else None
        self._first: tuple[Path, tuple[int, ...]] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, chosen: Sequence[int]) -> Batch:
        """The samples at these positions; BadSource naming the file that cannot be read."""
        groups = None if self.groups is None else [self.groups[i] for i in chosen]
        paths = [self.paths[i] for i in chosen]
        if self.modality == "text":
            return Batch([read_text(p) for p in paths], groups)
        return Batch(np.stack([self._image(p) for p in paths]), groups)

    def _image(self, path: Path) -> npt.NDArray[np.uint8]:
        image = read_image(path)
        first, shape = self._first = self._first or (path, image.shape)
        if image.shape != shape:
            raise BadSource(
                f"{path} is {image.shape[1]}x{image.shape[0]} pixels, {first.name} is {shape[1]}x{shape[0]}; "
                "give samples of one size"
            )
        return image


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] of a PNG, JPEG or WebP file, alpha dropped; BadSource naming the file."""
    from PIL import Image

    try:
        if path.stat().st_size > MOST_IMAGE_BYTES:
            raise ValueError(f"larger than {MOST_IMAGE_BYTES:,} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(f"larger than {MOST_PIXELS:,} pixels")
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"mode {image.mode}, expected 8 bits a channel")
                return np.array(image.convert("RGB"), dtype=np.uint8)
    except Exception as e:  # Pillow raises eleven unrelated classes on malformed files.
        raise BadSource(f"{path} cannot be read as an image ({line_of(e)}); remove it or write it again") from e


def read_text(path: Path, most: int = MOST_TEXT_BYTES) -> str:
    """The text of a UTF-8 file without blanks around it; BadSource naming the file."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise ValueError(f"larger than {most:,} bytes")
        text = data.decode("utf-8-sig").strip()
        if not text:
            raise ValueError("empty text")
    except UnicodeDecodeError as e:
        raise BadSource(f"{path} is not valid UTF-8 at byte {e.start}; remove it or write it again") from e
    except (OSError, ValueError) as e:
        raise BadSource(f"{path} cannot be read as a text ({line_of(e)}); remove it or write it again") from e
    return text


def read_prompts(owner: str, path: str) -> list[str]:
    """The prompts of a UTF-8 file, one a line, blank lines left out; none for no path. Raises BadSource, BadSetting."""
    if not path:
        return []
    if not Path(path).is_file():
        raise BadSetting(f"{owner}.prompts = {path!r}; expected a text file with one prompt a line")
    return [line.strip() for line in read_text(Path(path), 64 * MOST_TEXT_BYTES).splitlines() if line.strip()]


def fingerprint(files: Mapping[str, Path]) -> str:
    """sha256 over the names and the content of files; of one that cannot be read, of its name alone."""
    total = hashlib.sha256()
    for name, path in sorted(files.items()):
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            content = ""
        total.update(json.dumps([name, content]).encode())
    return total.hexdigest()


def files_of(folder: Path) -> dict[str, Path]:
    """Every plain file under a folder that is not hidden, by its path in it; none where there is no such folder."""
    found = {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file()} if folder.is_dir() else {}
    return {r.as_posix(): p for r, p in found.items() if not any(part.startswith(".") for part in r.parts)}


# ---------------------------------------------------------------------------------------------- the world outside


def is_off(*names: str) -> bool:
    """Whether one of these environment variables switches the network off."""
    return any(os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on") for name in names)


def line_of(said: object, most: int = 200) -> str:
    """The first line of what another program said, printable; the class of an exception that says nothing."""
    if isinstance(said, OSError) and said.strerror:
        said = said.strerror
    lines: Iterable[str] = str(said).strip().splitlines()
    first = next((line.strip() for line in lines if line.strip()), type(said).__name__)
    return "".join(c if c.isprintable() else " " for c in first)[:most]


@contextmanager
def borrowed_chance(rng: torch.Generator, device: str) -> Iterator[int]:
    """torch's global state seeded from `rng`, for a library that draws from it, and put back; yields the seed."""
    seed = int(torch.randint(2**62, (), generator=rng))
    with torch.random.fork_rng(devices=[torch.device(device)] if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        yield seed


def base_seed(rng: torch.Generator) -> int:
    """A number below 2**30 that depends on the seed of `rng` alone, whichever batch asks: sample i takes base + i."""
    return int(torch.randint(2**30, (), generator=torch.Generator().manual_seed(rng.initial_seed())))
