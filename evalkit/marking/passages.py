"""What a generator's output goes through on its way: copied, saved again, laundered, edited.

A laundering chain acts on decoded pixels, and what comes out is stored as a PNG that holds nothing else: every metadata
layer is gone, as it is after any upload that encodes again. `copy` leaves the bytes as they are. `resaved` stores the
same pixels as a new PNG and carries text, XMP and EXIF over, as a careful editor does; a signature is not carried over,
since it is of the old bytes. `stripped` is `resaved` without that care. Each changed file is looked through again like
any other, so a layer counted as lost was looked for and not found.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..attacking import ATTACKS, TextAttack, attack_of
from ..errors import UnknownName
from ..laundering import CHAINS, Chain, chain_of
from ..types import MediaFile, Modality, Sample, SampleSet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

COPY = "copy"
USUAL: tuple[str, ...] = (
    "resaved", "stripped", "jpeg95", "jpeg85", "jpeg75", "webp80", "resize0.9", "resize0.5", "crop0.8", "screenshot",
    "blur", "noise", "social1200", "recapture",
)  # fmt: skip


@dataclass(frozen=True)
class Passage:
    """A named way of changing a file; called with a MediaFile and a seed. Raises UnreadableSample where it cannot."""

    name: str
    says: str
    change: Callable[[MediaFile, int], MediaFile]

    def __call__(self, file: MediaFile, seed: int) -> MediaFile:
        return self.change(file, seed)


def passages_of(names: Sequence[str], modality: Modality) -> tuple[Passage, ...]:
    """`copy` and then the passages of these names, each once; without names the usual ones.

    `resize` stands for every chain whose name is that word and a number, `all` for all. Raises UnknownName.
    """
    known = {**FILES, **CHAINS} if modality == "image" else dict(ATTACKS)
    wanted: list[str] = []
    for name in names or (USUAL if modality == "image" else tuple(ATTACKS)):
        family = [k for k in known if name == "all" or re.fullmatch(re.escape(name) + r"(?<!\d)\d[\d.]*", k)]
        if name not in known and name != COPY and not family:
            raise UnknownName("chain", name, [COPY, "all", *known])
        wanted += [name] if name in known else family
    made = [_image_passage(n) if modality == "image" else _text_passage(attack_of(n)) for n in dict.fromkeys(wanted)]
    return (Passage(COPY, "the file as it is", lambda file, seed: file), *made)


def _image_passage(name: str) -> Passage:
    return FILES[name] if name in FILES else _laundered(chain_of(name))


def _laundered(chain: Chain) -> Passage:
    def change(file: MediaFile, seed: int) -> MediaFile:
        assert file.pixels is not None
        return image_file(chain(file.pixels, seed))

    return Passage(chain.name, chain.says, change)


def _text_passage(attack: TextAttack) -> Passage:
    def change(file: MediaFile, seed: int) -> MediaFile:
        assert file.text is not None
        return text_file(attack(file.text, seed))

    return Passage(attack.name, f"{attack.says}, share {attack.share:g}", change)


def _resaved(file: MediaFile, seed: int) -> MediaFile:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    assert file.pixels is not None
    notes, buffer = PngInfo(), io.BytesIO()
    with Image.open(io.BytesIO(file.data)) as image:
        texts = {str(k): v for k, v in getattr(image, "text", {}).items() if isinstance(v, str)}
        xmp, exif = image.info.get("xmp"), image.getexif().tobytes()
    if isinstance(xmp, bytes):
        texts.setdefault("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    for key, text in texts.items():
        notes.add_itxt(key, text)
    Image.fromarray(file.pixels).save(
        buffer, "PNG", pnginfo=notes, compress_level=1, **({"exif": exif} if exif else {})
    )
    return MediaFile(buffer.getvalue(), "PNG", "image", pixels=file.pixels)


def _stripped(file: MediaFile, seed: int) -> MediaFile:
    assert file.pixels is not None
    return image_file(file.pixels)


FILES = {
    "resaved": Passage("resaved", "the same pixels in a new PNG; text, XMP and EXIF carried over", _resaved),
    "stripped": Passage("stripped", "the same pixels in a new PNG that holds nothing else", _stripped),
}


def image_file(pixels: npt.NDArray[np.uint8]) -> MediaFile:
    """uint8 [H, W, 3] as a PNG file without metadata."""
    from PIL import Image

    buffer = io.BytesIO()
    # Level 1: these files are read once, and deflate would otherwise be most of the work.
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return MediaFile(buffer.getvalue(), "PNG", "image", pixels=pixels)


def text_file(text: str) -> MediaFile:
    """A text as a UTF-8 file."""
    return MediaFile(text.encode("utf-8", "surrogatepass"), "TEXT", "text", text=text)


# Files as they are stored ---------------------------------------------------------------------------------------------


def opener(samples: SampleSet) -> Callable[[Sample], tuple[MediaFile, bool]]:
    """What opens a sample of the set with the bytes it is stored as, and says whether there were any.

    Folders and archives have files; a row of an array or a line of a table has none and becomes a bare file. What is
    called raises UnreadableSample.
    """
    read = _stored(Path(getattr(samples, "source", "") or "/dev/null"))

    def opened(sample: Sample) -> tuple[MediaFile, bool]:
        media = sample.load()  # first: it is what checks sizes
        data = None if read is None else read(sample.id)
        whole = data is not None and hashlib.sha256(data).hexdigest() == sample.digest
        if isinstance(media, str):
            return (MediaFile(data or b"", "TEXT", "text", text=media), True) if whole else (text_file(media), False)
        facts = None if sample.facts is None else sample.facts()
        if data is None or not whole or facts is None:
            return image_file(media), False
        return MediaFile(data, facts.format, "image", facts, pixels=media), True

    return opened


def _stored(path: Path) -> Callable[[str], bytes | None] | None:
    """What reads a member of a folder, .zip or .tar by its sample id; None for other sources."""
    if path.is_dir():
        return lambda name: _or_none(lambda: (path / name).read_bytes())
    if not path.is_file():
        return None
    lock = threading.Lock()
    if zipfile.is_zipfile(path):
        packed = zipfile.ZipFile(path)
        return lambda name: _locked(lock, lambda: packed.read(name))
    if tarfile.is_tarfile(path):
        rolled = tarfile.open(path)  # noqa: SIM115 (read for as long as the set lives)
        return lambda name: _locked(lock, lambda: member.read() if (member := rolled.extractfile(name)) else b"")
    return None


def _locked(lock: threading.Lock, read: Callable[[], bytes]) -> bytes | None:
    with lock:
        return _or_none(read)


def _or_none(read: Callable[[], bytes]) -> bytes | None:
    try:
        return read()
    except (OSError, KeyError):
        return None
