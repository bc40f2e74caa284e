"""The dwtDct witness: bits of the package, recorded marked images, three readings, nulls by hand, settings refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binom
from sklearn.datasets import load_sample_image

from detectors._payload import HINT, STRONG, Payload, p_conformal
from detectors._payload import given as payload_of
from detectors.dwtdct import KNOWN, READINGS, DwtDct, block_votes, calibrate_null, decode
from evalkit.errors import BadSetting
from evalkit.types import MediaFile, Witness
from tests.data import shared

BY_NAME = {p.name: p for p in KNOWN}
# The flower's chroma is wide: each reading reads it without a bit lost.
COVER = load_sample_image("flower.jpg")[:416, :480]
MINE = "5ad1c3e7f00dfeed"


def opened(pixels) -> MediaFile:
    return MediaFile(b"", "PNG", "image", None, np.asarray(pixels, dtype=np.uint8))


def read(path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


def marked(pixels, bits, *, floating: bool = False, swapped: bool = False) -> np.ndarray:
    """The package's own embedding, in the form that each kind of program hands it the image."""
    watermark = pytest.importorskip("imwatermark")
    encoder = watermark.WatermarkEncoder()
    encoder.set_watermark("bits", list(bits))
    image = np.ascontiguousarray(pixels if swapped else pixels[..., ::-1])
    out = encoder.encode(image.astype(np.float32) if floating else image, "dwtDct")
    out = np.clip(out, 0, 255).round().astype(np.uint8)
    return out if swapped else np.ascontiguousarray(out[..., ::-1])


# ---------------------------------------------------------------------------------------------- the decoder


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(200, 230), st.integers(330, 350), st.sampled_from([32, 48, 136]))
def test_the_bits_are_the_package_s(seed, height, width, n):
    """Noise of full range, blocks of one colour (where rounding decides) and sizes that no block divides."""
    watermark = pytest.importorskip("imwatermark")
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels[: height // 2] = rng.integers(0, 256, (height // 2, width // 50 + 1, 3), np.uint8).repeat(50, 1)[:, :width]
    theirs = watermark.WatermarkDecoder("bits", n).decode(np.ascontiguousarray(pixels[..., ::-1]), "dwtDct")
    assert np.array_equal(decode(pixels, n), theirs)


def test_each_vote_is_the_package_s_on_photographs():
    """Vote by vote, which bits could hide: a payload as long as there are blocks has one vote a bit."""
    watermark = pytest.importorskip("imwatermark")
    for name in ("china.jpg", "flower.jpg"):
        pixels = load_sample_image(name)[:300, :333]
        n = (300 // 8) * (333 // 8)
        theirs = watermark.WatermarkDecoder("bits", n).decode(np.ascontiguousarray(pixels[..., ::-1]), "dwtDct")
        assert np.array_equal(block_votes(pixels), theirs)


def test_stripes_change_no_vote(monkeypatch):
    import detectors.dwtdct as module

    whole = {reading: block_votes(COVER, reading) for reading in READINGS}
    monkeypatch.setattr(module, "STRIPE", 8)
    for reading in READINGS:
        assert np.array_equal(block_votes(COVER, reading), whole[reading]) and len(whole[reading]) == 52 * 60


def test_the_recorded_images_match_as_recorded():
    folder = shared("data/image/watermark_dwtdct")
    labels = json.loads((folder / "labels.json").read_text("utf-8"))["matched_bits"]
    names = {"SDv1": "stable-diffusion-v1", "SDV2": "stable-diffusion-v2", "SDXL": "sdxl"}
    found = {}
    for file, rows in labels.items():
        pixels = read(folder / file)
        for label, (matched, n) in rows.items():
            bits = np.array(BY_NAME[names[label]].bits, dtype=bool)
            ours = int((decode(pixels, n) == bits).sum())
            # Coefficients on the edge of a half go the way of the build that recorded them: of payloads that are not
            # there a few bits differ between builds of the package, of one that is there none.
            assert len(bits) == n and abs(ours - matched) <= (0 if matched == n else 6), (file, label)
        found[file] = {e.facts["payload"]: e for e in DwtDct().testify(opened(pixels))}
    assert {file: sorted(said) for file, said in found.items()} == {
        "cover_SD1-5.png": [],
        "wm_sdv1_136_SD1-5.png": ["stable-diffusion-v1"],
        "wm_sdxl48_SD1-5.png": ["sdxl"],
        "wm_sdxl48_SD1-5_q95_420.jpg": [],
        "wm_sdxl48_SD1-5_q95_444.jpg": ["sdxl"],
    }
    said = found["wm_sdxl48_SD1-5.png"]["sdxl"]
    assert (said.kind, said.says, said.strength, said.source) == ("watermark", "synthetic", "strong", "dwtdct")
    assert said.p_value == said.facts["p_binomial"] == 3 * 2.0**-48 and said.facts["matched"] == 48


@pytest.mark.parametrize("reading", READINGS)
def test_each_way_of_embedding_is_read_by_its_reading(reading):
    pixels = marked(COVER, BY_NAME["sdxl"].bits, floating=reading != "uint8", swapped=reading == "float_rgb")
    (said,) = DwtDct().testify(opened(pixels))
    assert said.facts["payload"] == "sdxl" and said.facts["matched"] >= 46 and said.strength == "strong"
    if reading == "float_rgb":
        assert said.facts["reading"] == "float_rgb"


def test_floating_point_marks_that_the_package_cannot_read():
    """A face with U below the middle: the package's decoder sees chance, ours all bits."""
    path = shared("data/image/faces/real/00509df315950fd0.jpg")
    pixels = marked(read(path), BY_NAME["sdxl"].bits, floating=True)
    bits = np.array(BY_NAME["sdxl"].bits, dtype=bool)
    assert int((decode(pixels, 48) == bits).sum()) < 30
    (said,) = DwtDct().testify(opened(pixels))
    assert (said.facts["reading"], said.facts["matched"]) == ("float", 48)


# ---------------------------------------------------------------------------------------------- chance


def test_the_published_payloads_are_the_published_ones():
    assert bytes(np.packbits(BY_NAME["stable-diffusion-v1"].bits)) == b"StableDiffusionV1"
    assert bytes(np.packbits(BY_NAME["stable-diffusion-v2"].bits)) == b"SDV2"
    assert bytes(np.packbits(BY_NAME["invokeai"].bits)) == b"InvokeAI"
    joined = {name: "".join(map(str, p.bits)) for name, p in BY_NAME.items()}
    assert joined["sdxl"] == "101100111110110010010000011110111011000110011110"
    assert joined["flux"] == "001010101111111010000111100111001111010100101110"[2:]


def test_p_values_are_those_of_the_binomial_and_the_thresholds_the_known_ones():
    for payload in KNOWN:
        n, tests = len(payload.bits), len(payload.readings)
        for matched in (0, n // 2, n - 7, n):
            wanted = min(1.0, tests * float(binom.sf(matched - 1, n, 0.5)))
            assert payload.p_binomial(matched) == pytest.approx(wanted, rel=1e-9)
    least = {name: p.least(STRONG) for name, p in BY_NAME.items()}
    assert (least["stable-diffusion-v2"], least["sdxl"], least["stable-diffusion-v1"]) == (30, 41, 96)


def test_the_conformal_p_value_by_hand():
    null = [0, 2, 5, 2, 1]
    assert [p_conformal(m, null) for m in range(5)] == [1, 1, 9 / 11, 4 / 11, 2 / 11]
    assert p_conformal(5, null) == 1 / 11


def test_a_null_of_reals_gives_the_p_value_and_can_take_the_strength():
    pixels = marked(COVER, payload_of("mine", MINE, READINGS).bits)
    reals = [np.roll(COVER, 8 * k, axis=1) for k in range(4)]
    null = calibrate_null(reals, payloads={"mine": MINE})
    assert sum(null["mine"]) == sum(null["sdxl"]) == 4 and len(null["mine"]) == 65 and len(null["sdxl"]) == 49
    (said,) = DwtDct(payloads={"mine": MINE}, null=null).testify(opened(pixels))
    assert (said.strength, said.p_value) == ("strong", 1 / 5) and said.facts["p_binomial"] < STRONG
    assert said.facts["reals"] == 4 and "0 of 4 real images" in said.detail
    # A real with as many matches: the same image is a hint, at two in six.
    null["mine"][64] += 1
    (said,) = DwtDct(payloads={"mine": MINE}, null=null).testify(opened(pixels))
    assert (said.strength, said.p_value) == ("hint", 2 / 6)


def test_between_the_two_limits_it_is_a_hint():
    payload = Payload("x", tuple([0, 1] * 24), READINGS)
    assert payload.least(HINT) == 38 and payload.least(STRONG) == 41
    bits = list(payload.bits)
    said = DwtDct(payloads={"x": "555555555555"})
    whole = marked(COVER, bits)
    assert said.testify(opened(whole))[0].strength == "strong"
    partly = marked(COVER, [b ^ (i < 9) for i, b in enumerate(bits)])
    (hint,) = said.testify(opened(partly))
    assert hint.strength == "hint" and STRONG <= hint.facts["p_binomial"] < HINT and "too few" in hint.detail


def test_more_damage_leaves_fewer_matches():
    pixels = marked(COVER, BY_NAME["sdxl"].bits)
    witness, counts = DwtDct(), []
    for quality in (100, 90, 30):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
        counts.append(witness.count(read(file))["sdxl"][0])
    assert witness.count(pixels)["sdxl"][0] == 48 and counts[0] > counts[2] and counts == sorted(counts, reverse=True)


# ---------------------------------------------------------------------------------------------- what is not said


def test_unmarked_small_and_other_files_say_nothing():
    witness = DwtDct(payloads={"mine": MINE})
    grey = np.full((300, 300, 3), 120)
    for pixels in (COVER, grey, np.zeros((400, 400, 3)), np.random.default_rng(0).integers(0, 256, (256, 256, 3))):
        assert witness.testify(opened(pixels)) == []
    assert witness.testify(MediaFile(b"x", "TEXT", "text", None, None, "x")) == []
    small = marked(COVER, BY_NAME["sdxl"].bits)[:255, :256]
    assert DwtDct().testify(opened(small)) == [] and DwtDct().count(small) == {}
    for shape in ((4, 40_000, 3), (40_000, 4, 3), (70_000, 8, 3)):
        assert DwtDct().testify(opened(np.zeros(shape))) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"payloads": {"a": "xyz"}}, "expected hex digits"),
        ({"payloads": {"a": "-5ad1c3e7"}}, "expected hex digits"),
        ({"payloads": {"a": "5ad1"}}, "too few to be told from chance"),
        ({"payloads": {"a": "00000001"}}, "flat images would match"),
        ({"payloads": {"a": "f" * 16}}, "flat images would match"),
        ({"payloads": {"a": "5a" * 200}}, "at most 1024"),
        ({"payloads": {"sdxl": MINE}}, "is a published one"),
        ({"null": {"other": [1, 2]}}, "no such payload"),
        ({"null": {"sdxl": [1, 2]}}, "expected 49 counts"),
        ({"null": {"sdxl": [0] * 49}}, "expected 49 counts"),
        ({"null": {"sdxl": [-1] + [1] * 48}}, "expected 49 counts"),
    ],
)
def test_wrong_settings_are_one_line(wrong, said):
    with pytest.raises(BadSetting) as raised:
        DwtDct(**wrong)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_there_is_no_null_without_images():
    with pytest.raises(BadSetting, match="no image of 65536 pixels"):
        calibrate_null([COVER[:100]])


def test_it_is_a_witness_whose_digest_covers_what_it_looks_for_and_loads_no_torch():
    plain, other = DwtDct(), DwtDct(payloads={"mine": MINE})
    assert isinstance(plain, Witness) and plain.name == "dwtdct" and plain.digest == DwtDct().digest
    nulls = DwtDct(null={"sdxl": [1] * 49})
    assert len({plain.digest, other.digest, nulls.digest}) == 3 and plain.digest.startswith("sha256:")
    code = "import sys, detectors.dwtdct; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
