"""The RivaGAN witness: bits of the package's own decoder, presence by p-value, weights found and refused."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from detectors.rivagan import SIDE, RivaGan, _centre, calibrate_null
from evalkit.errors import BadSetting, RunFailed
from evalkit.types import MediaFile, Witness
from evalkit.weights import DETECTORS
from tests.conftest import at_home  # noqa: F401

MINE = "5ad1c3e7"
BITS = [int(b) for b in f"{int(MINE, 16):032b}"]
COVER = load_sample_image("china.jpg")[:256, :256]


def opened(pixels) -> MediaFile:
    return MediaFile(b"", "PNG", "image", None, pixels)


@pytest.fixture(scope="module")
def package():
    """invisible-watermark with its networks."""
    pytest.importorskip("onnxruntime")
    watermark = pytest.importorskip("imwatermark")
    watermark.WatermarkEncoder.loadModel()
    return watermark


@pytest.fixture(scope="module")
def marked(package) -> np.ndarray:
    encoder = package.WatermarkEncoder()
    encoder.set_watermark("bits", BITS)
    return np.ascontiguousarray(encoder.encode(np.ascontiguousarray(COVER[..., ::-1]), "rivaGan")[..., ::-1])


def test_the_bits_are_the_package_s_and_a_mark_is_present_or_not(package, marked, monkeypatch):
    witness = RivaGan(payloads={"mine": MINE, "other": "0f3c5a96"})
    theirs = package.WatermarkDecoder("bits", 32).decode(np.ascontiguousarray(marked[..., ::-1]), "rivaGan")
    ours = witness.decode(marked)
    assert np.array_equal(ours, theirs.astype(bool))
    null = calibrate_null([COVER], payloads={"mine": MINE})
    assert len(null["mine"]) == 33 and sum(null["mine"]) == 1
    # Decoding takes a second: what is said of the bits is asked with the bits decoded above.
    monkeypatch.setattr(RivaGan, "decode", lambda self, pixels: ours)
    (said,) = witness.testify(opened(marked))
    assert (said.kind, said.says, said.strength, said.source) == ("watermark", "synthetic", "strong", "rivagan")
    assert (said.facts["payload"], said.facts["matched"], said.p_value) == ("mine", 32, 2.0**-32)
    (said,) = RivaGan(payloads={"mine": MINE}, null=null).testify(opened(marked))
    assert said.p_value == 1 / 2 and said.strength == "strong" and said.facts["p_binomial"] == 2.0**-32


def test_of_a_large_image_the_centre_is_read():
    pixels = np.arange(1200 * 900 * 3, dtype=np.uint32).reshape(1200, 900, 3).astype(np.uint8)
    assert np.array_equal(_centre(pixels), pixels[344:856, 194:706])
    strip = np.zeros((100, 4000, 3), np.uint8)
    assert _centre(strip).shape == (100, SIDE * SIDE // 100, 3) and _centre(strip[:, :2600]).shape == (100, 2600, 3)
    assert _centre(COVER) is COVER


def test_it_looks_for_nothing_until_a_payload_is_given():
    witness = RivaGan()
    assert isinstance(witness, Witness) and witness.name == "rivagan" and witness.testify(opened(COVER)) == []
    assert witness.digest == RivaGan().digest and witness.digest.startswith("sha256:")
    with pytest.raises(BadSetting, match="was given no payload"):
        witness.decode(COVER)


def test_small_images_and_texts_say_nothing(package):
    witness = RivaGan(payloads={"mine": MINE})
    assert witness.digest != RivaGan().digest
    assert witness.testify(opened(COVER[:255])) == []
    assert witness.testify(MediaFile(b"x", "TEXT", "text", None, None, "x")) == []
    with pytest.raises(BadSetting, match="no image of 65536 pixels"):
        calibrate_null([COVER[:255]], payloads={"mine": MINE})


def test_the_record_is_of_the_package_s_file():
    spec = importlib.util.find_spec("imwatermark")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("invisible-watermark is not installed")
    data = (Path(spec.submodule_search_locations[0]) / "rivagan_decoder.onnx").read_bytes()
    record = DETECTORS["rivagan"]
    assert hashlib.sha256(data).hexdigest() == record.sha256 and len(data) == record.size
    assert record.name == "rivagan_decoder.onnx" and record.licence == "MIT"


def test_other_weights_and_absent_ones_are_refused(at_home, monkeypatch):  # noqa: F811
    pytest.importorskip("onnxruntime")
    other = at_home / "rivagan_decoder.onnx"
    other.write_bytes(b"something else")
    with pytest.raises(RunFailed, match="are not the ones recorded"):
        RivaGan(payloads={"mine": MINE}, weights=str(other))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    with pytest.raises(RunFailed, match=r"rivagan_decoder\.onnx .* are not on this machine"):
        RivaGan(payloads={"mine": MINE})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"payloads": {"a": "5ad1c3"}}, "24 bits; expected 32 (8 hex digits)"),
        ({"payloads": {"a": "00000000"}}, "flat images would match"),
        ({"null": {"a": [1] * 33}}, "no such payload"),
    ],
)
def test_wrong_settings_are_one_line(wrong, said):
    with pytest.raises(BadSetting) as raised:
        RivaGan(**wrong)
    assert said in str(raised.value) and "\n" not in str(raised.value)
