"""The RivaGAN watermark: whether a 32-bit payload that the user gives is present (Zhang et al. 2019, "Robust invisible
video watermarking with attention").

The published ONNX decoder through onnxruntime, as invisible-watermark 0.2.0 runs it: BGR, x / 127.5 - 1, a bit is 1
where the output exceeds 0.52. No generator is known to write one payload, so nothing is looked for until one is given.

The decoder is a 3-D convolutional network at full resolution: about 4 s and 200 MB at 512 x 512 on one core. It pools
over positions, so of larger images the centre is read.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evalkit.errors import BadSetting, RunFailed
from evalkit.extractors.identity import identity
from evalkit.types import Evidence, MediaFile
from evalkit.weights import DETECTORS, digest_of_file, obtain
from evalkit.weights import find as find_weights

from ._payload import Bits, given, histogram, matches, read_null, testimony

Pixels = npt.NDArray[np.uint8]

BITS = 32
# The package's own threshold, not the 0.5 of a fair coin.
CUT = 0.52
LEAST_PIXELS = 256 * 256
# Side of the centre that is read of larger images: time and memory grow with its square.
SIDE = 512
READINGS = ("centre",)


class RivaGan:
    """Whether an image carries the RivaGAN watermark with a 32-bit payload that you give."""

    name = "rivagan"
    modality = "image"
    version = 1
    licence = "MIT"
    trained = "Hollywood2 film clips"

    def __init__(
        self,
        *,
        payloads: Mapping[str, str] | None = None,
        null: Mapping[str, Sequence[int]] | None = None,
        weights: str = "",
    ) -> None:
        """payloads: name -> 8 hex digits. null: what `calibrate_null` gave. weights: path of rivagan_decoder.onnx.

        With payloads, the decoder is looked for at once: RunFailed where it or onnxruntime is missing. BadSetting for
        a payload that is not of 32 bits or nearly constant.
        """
        self.payloads = tuple(given(name, digits, READINGS, BITS) for name, digits in (payloads or {}).items())
        self._null = read_null(null, self.payloads)
        self._session = _session(_decoder(weights)) if self.payloads else None

    @property
    def digest(self) -> str:
        """sha256:... of version, weights, payloads and nulls."""
        return self.recipe

    @property
    def recipe(self) -> str:
        wanted = [[p.name, "".join(map(str, p.bits))] for p in self.payloads]
        terms = {"payloads": wanted, "null": self._null, "weights": DETECTORS["rivagan"].sha256, "side": SIDE}
        return identity(self.name, self.version, terms)

    def testify(self, file: MediaFile) -> Sequence[Evidence]:
        """Evidence for each payload that is matched better than chance; [] for texts and small or unmarked images."""
        if self._session is None or file.pixels is None:
            return []
        decoded = self.decode(file.pixels)
        if decoded is None:
            return []
        found: list[Evidence] = []
        for payload in self.payloads:
            matched, reading = matches(payload, {READINGS[0]: decoded})
            found += testimony(self.name, payload, matched, reading, self._null.get(payload.name))
        return found

    def decode(self, pixels: Pixels) -> Bits | None:
        """The 32 bits that an image carries, marked or not; None below 256 x 256 pixels. pixels uint8 [H, W, 3] RGB."""
        if self._session is None:
            raise BadSetting("rivagan was given no payload; give payloads={'name': '8 hex digits'}")
        if pixels.shape[0] * pixels.shape[1] < LEAST_PIXELS:
            return None
        return _bits(self._session, _centre(pixels))


def _bits(session: Any, pixels: Pixels) -> Bits:
    frame = pixels[..., ::-1].astype(np.float32) / np.float32(127.5) - np.float32(1)
    said = session.run(None, {"frame": np.ascontiguousarray(frame.transpose(2, 0, 1)[None, :, None])})[0][0]
    return np.asarray(said > CUT)


def _centre(pixels: Pixels) -> Pixels:
    """At most SIDE x SIDE pixels of the middle; a long strip keeps its length up to the same area."""
    height, width = pixels.shape[:2]
    if height * width <= SIDE * SIDE:
        return pixels
    high = min(height, max(SIDE, SIDE * SIDE // width))
    wide = min(width, SIDE * SIDE // high)
    top, left = (height - high) // 2, (width - wide) // 2
    return pixels[top : top + high, left : left + wide]


def _decoder(explicit: str) -> Path:
    """The verified decoder: the named file, one that lies in the known places or an installed package, else fetched."""
    record = DETECTORS["rivagan"]
    if explicit:
        return obtain(record, Path(explicit).expanduser())
    found = find_weights(record)
    if found is not None:
        return found
    # The package is only looked up: importing it would load torch and OpenCV.
    spec = importlib.util.find_spec("imwatermark")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        file = Path(folder) / record.name
        if file.is_file() and digest_of_file(file) == record.sha256:
            return file
    return obtain(record)


def _session(file: Path) -> Any:
    try:
        onnxruntime: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RunFailed("the rivagan witness needs onnxruntime; pip install 'evalkit[onnx]'") from error
    options = onnxruntime.SessionOptions()
    # One thread: as many workers as cores do the sharing, and sums keep one order.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own that share no base.
        raise RunFailed(f"weights {file} cannot be opened by onnxruntime ({str(error)[:120]})") from error


def calibrate_null(images: Iterable[Pixels], *, payloads: Mapping[str, str], weights: str = "") -> dict[str, list[int]]:
    """The `null` setting: of each payload, how many of these real images have 0, 1, ..., 32 matched bits.

    images: uint8 [H, W, 3] of images known to be unmarked; smaller ones are left out. BadSetting without any.
    """
    witness = RivaGan(payloads=payloads, weights=weights)
    decoded = [bits for pixels in images if (bits := witness.decode(pixels)) is not None]
    if not decoded:
        raise BadSetting(f"no image of {LEAST_PIXELS} pixels or more to calibrate the watermark null on")
    return {p.name: histogram((matches(p, {READINGS[0]: d})[0] for d in decoded), BITS) for p in witness.payloads}
