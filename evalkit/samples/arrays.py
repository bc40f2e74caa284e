"""Images as arrays and texts as lists: in memory, or in .npz and .npy files (never pickled)."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadSource, NothingToEvaluate, UnreadableSample
from ..types import Sample
from ._set import ListedSet, loaded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..types import Media

# numpy.load reads whatever size a file declares: 500 MB of zeros are a 0.5 MB file.
MOST_BYTES = 8 * 2**30


def from_images(
    images: Any,
    name: str = "array",
    groups: Sequence[str] | None = None,
    source: str = "",
    conditions: Sequence[str] | None = None,
) -> ListedSet:
    """A set of images given as [N, H, W], [N, H, W, 1] or [N, H, W, 3]: uint8, or floats in [0, 1].

    groups, conditions: the label and the prompt of each, where they have one.

    Raises BadSource naming the first sample that holds NaN or a value out of range, NothingToEvaluate when N = 0.
    """
    pixels = _as_uint8(images, name)
    if groups is not None and len(groups) != len(pixels):
        raise BadSource(f"{name}: {len(groups)} groups for {len(pixels)} images; give one label an image")
    samples = []
    for i, image in enumerate(pixels):
        digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
        group, prompt = (None if given is None else str(given[i]) for given in (groups, conditions))
        samples.append(Sample(f"{name}-{i:06d}", digest, loaded(image), group, prompt))
    if not samples:
        raise NothingToEvaluate(f"{name}: an array of no images")
    return ListedSet(name, "image", tuple(samples), source or name)


def from_texts(
    texts: Sequence[str],
    name: str = "texts",
    groups: Sequence[str] | None = None,
    source: str = "",
    conditions: Sequence[str] | None = None,
) -> ListedSet:
    """A set of texts; an empty one stays listed and is excluded, with its reason, when it is read."""
    if groups is not None and len(groups) != len(texts):
        raise BadSource(f"{name}: {len(groups)} groups for {len(texts)} texts; give one label a text")
    samples = []
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise BadSource(f"{name}: sample {i} is {type(text).__name__}, expected str")
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        group, prompt = (None if given is None else str(given[i]) for given in (groups, conditions))
        samples.append(Sample(f"{name}-{i:06d}", digest, _text(text), group, prompt))
    if not samples:
        raise NothingToEvaluate(f"{name}: a list of no texts")
    return ListedSet(name, "text", tuple(samples), source or name)


def _text(text: str) -> Callable[[], Media]:
    def load() -> Media:
        if not text.strip():
            raise UnreadableSample("empty text")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UnreadableSample(f"not valid Unicode at character {error.start}") from error
        return text

    return load


def _as_uint8(images: Any, name: str) -> npt.NDArray[np.uint8]:
    import numpy as np

    pixels = np.asarray(images)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3):
        raise BadSource(
            f"{name}: array of shape {tuple(np.shape(images))}; expected [N, H, W], [N, H, W, 1] or [N, H, W, 3]"
        )
    if pixels.dtype.kind == "f":
        bad = ~np.isfinite(pixels) | (pixels < 0) | (pixels > 1)
        if bad.any():
            first = int(np.argmax(bad.reshape(len(pixels), -1).any(axis=1)))
            raise BadSource(
                f"{name}: sample {first} holds NaN or values outside [0, 1]; give uint8, or floats in [0, 1]"
            )
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise BadSource(f"{name}: array of {pixels.dtype}; expected uint8, or floats in [0, 1]")
    if pixels.shape[1] == 0 or pixels.shape[2] == 0:
        raise BadSource(f"{name}: images of {pixels.shape[1]}x{pixels.shape[2]} pixels; expected at least 1x1")
    pixels = np.repeat(pixels, 3, axis=3) if pixels.shape[-1] == 1 else pixels
    return np.ascontiguousarray(pixels)


def open_arrays(path: Path) -> ListedSet:
    """The images of a .npy, or of the array called images, samples, x or arr_0 in a .npz (labels: labels or y)."""
    import numpy as np

    try:
        _check_declared_size(path)
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return from_images(stored, path.stem, source=str(path))
        with stored:
            name = next((k for k in ("images", "samples", "x", "arr_0") if k in stored.files), None)
            if name is None:
                raise BadSource(f"{path}: arrays {', '.join(stored.files) or '(none)'}; expected one called images")
            label = next((k for k in ("labels", "y") if k in stored.files), None)
            groups = None if label is None else [str(v) for v in np.asarray(stored[label]).reshape(-1)]
            return from_images(stored[name], path.stem, groups, str(path))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadSource(f"cannot read arrays of {str(path)!r}: {str(error).splitlines()[0]}") from error


def _check_declared_size(path: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            declared = sum(info.file_size for info in archive.infolist())
    else:
        declared = path.stat().st_size
    if declared > MOST_BYTES:
        raise BadSource(f"{path}: unpacks to {declared:,} bytes, at most {MOST_BYTES:,} are read; split it")
