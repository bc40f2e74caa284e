"""Provenance of hostile bytes: whatever the file, evidence or nothing comes out, no exception and never much work."""

from __future__ import annotations

import json
import random
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import _carriers, _stealth, _xmp
from detectors.provenance import Provenance
from evalkit.types import Evidence, MediaFile
from tests.data import shared
from tests.marked import Signer, chunk, encoded, exif, hidden, jpeg, jpeg_xmp, opened, pixels, png, text, webp, xmp
from tests.test_provenance_marks import FORMS, JSON, SETTINGS, extended, samsung

WITNESS = Provenance(at="2026-11-22T00:00:00+00:00")
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><x>&c;</x>'
)
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><x>&a;</x>'
SEEDS = {
    "png": png(*(text(key, json.dumps(value)) for tool in JSON.values() for key, value in tool.items())),
    "packed": png(text("parameters", SETTINGS, b"zTXt"), text("XML:com.adobe.xmp", FORMS["list"], b"iTXt")),
    "jpeg": jpeg(exif({0x010F: "Canon", 0x0110: "EOS", 0x010E: "x"}, b"UNICODE\0" + SETTINGS.encode("utf-16-be"))),
    "xmp": extended(FORMS["element"]),
    "webp": webp(b"EXIF", exif({0x0131: "Midjourney"})),
    "tiff": encoded(pixels(), "TIFF", tiffinfo={700: FORMS["bare"], 0x010F: "Canon"}),
    "samsung": samsung(7),
    "hidden": encoded(hidden(SETTINGS.encode(), b"stealth_pnginfo", 4)),
}


def found_in(data: bytes) -> list[Evidence]:
    """The evidence, checked for what every record of it needs: plain JSON, no unseen character, a closed vocabulary."""
    said = WITNESS.testify(MediaFile(data, "", "image", pixels=pixels()))
    for item in said:
        assert item.says in ("synthetic", "authentic", "edited", "unknown")
        assert item.strength in ("strong", "claim", "hint") and item.kind in ("metadata", "c2pa")
        whole = json.dumps(dict(item.facts), allow_nan=False) + item.detail
        assert len(whole) < 40_000 and item.detail.isprintable()
    return said


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, a stretch removed or doubled, or the end cut off."""
    body = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(body))
        kind, width = rng.randrange(4), rng.randrange(1, 64)
        if kind == 0:
            body[at] = rng.randrange(256)
        elif kind == 1:
            body[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x0c"))
        elif kind == 2:
            body[at:at] = body[max(at - width, 0) : at]
        elif len(body) > 2 * width:
            del body[at : at + width]
    return bytes(body[: rng.randrange(1, len(body) + 1)] if rng.random() < 0.2 else body)


@pytest.mark.parametrize("name", SEEDS)
def test_mutants_of_every_container_raise_nothing(name) -> None:
    assert found_in(SEEDS[name])
    rng = random.Random(name)
    for _ in range(150):
        found_in(mutated(SEEDS[name], rng))


def test_mutants_of_a_signed_file_are_read_or_said_to_be_unread() -> None:
    pytest.importorskip("c2pa", reason="c2pa-python (extra provenance) is not installed")
    signer, rng = Signer(), random.Random(0)
    witness = Provenance(anchors=signer.anchors, at="2026-11-22T00:00:00+00:00")
    data = signer.sign("trainedAlgorithmicMedia")
    (signed,) = witness.testify(opened(data))
    start, end = data.index(b"jumb") - 4, data.index(b"IDAT") - 8
    # A store is padded with zeros, which nobody signs; and the PNG holds no sum of it that is checked.
    places = rng.sample([at for at in range(start, end) if data[at]], 120)
    whole = 0
    for at in places:
        changed = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        (item,) = witness.testify(opened(changed))
        assert item.strength != "strong" or (item.says, item.facts) == (signed.says, signed.facts)
        whole += item.strength == "strong"
    # Labels of boxes that are found by their type are not signed either.
    assert whole < 10


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"eXIf"]), st.integers(0, 0xFFFFFFFF))
def test_any_chunk_body_and_any_length_raise_nothing(body, kind, length) -> None:
    found_in(png(chunk(kind, body)))
    found_in(png(struct.pack(">I", length) + kind + body))
    found_in(jpeg(b"Exif\0\0" + body))
    found_in(webp(b"EXIF", body))
    found_in(jpeg_xmp(body))


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["inputs", "class_type", "seed", "nodes", "links", "image", "prompt", "model", "Label", "AIGC"]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    ),
)
def test_any_json_under_any_keyword_raises_nothing(value) -> None:
    body = json.dumps(value)
    keywords = ("parameters", "prompt", "workflow", "invokeai_metadata", "sd-metadata", "Comment", "AIGC")
    found_in(png(*(text(keyword, body) for keyword in keywords), text("Software", "NovelAI")))
    found_in(png(text("parameters", json.dumps({"sui_image_params": value, "metadata_scheme": value}))))
    found_in(
        png(text("prompt", json.dumps({"1": {"class_type": "KSampler", "inputs": {"seed": value, "text": value}}})))
    )


@pytest.mark.parametrize("packet", [LAUGHS, OUTSIDE], ids=["entities that grow", "an entity from outside"])
def test_xmp_with_a_document_type_is_refused_before_it_declares_anything(packet) -> None:
    with pytest.raises(_xmp.XmpRefused, match="document type"):
        _xmp.properties(packet.encode())
    (said,) = found_in(jpeg_xmp(packet.encode()))
    assert said.says == "unknown" and "document type" in said.detail and said.detail.endswith("Not read: unknown.")


def test_xmp_that_is_too_much_is_left_unread_and_said_so() -> None:
    deep = b"<a>" * 200 + b"</a>" * 200
    many = b"<r>" + b"<a/>" * 30_000 + b"</r>"
    for packet, reason in ((deep, "levels"), (many, "elements"), (b"<a", "not XML"), (b"<a>&x;</a>", "not XML")):
        with pytest.raises(_xmp.XmpRefused, match=reason):
            _xmp.properties(packet)
    long = xmp(elements="<photoshop:Instructions>" + "x" * (10 << 20) + "</photoshop:Instructions>")
    (said,) = found_in(png(text("XML:com.adobe.xmp", long, b"iTXt")))
    assert said.facts["unread"].startswith(("XMP of", "a iTXt chunk")) and said.says == "unknown"
    values = "".join(f"<e:DigitalSourceType>{i}</e:DigitalSourceType>" for i in range(5_000))
    assert sum(map(len, _xmp.properties(xmp(elements=values)).values())) <= _xmp.MOST_VALUES


def test_bombs_are_capped_before_they_are_held() -> None:
    bomb = zlib.compress(b"\0" * (48 << 20), 1)
    files = [
        png(chunk(b"zTXt", b"parameters\0\0" + bomb)),
        png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb)),
        png(*(text(f"k{i}", "x" * 1000) for i in range(5_000))),
        encoded(hidden(b"x", b"stealth_pngcomp", 4)),
    ]
    tracemalloc.start()
    for data in files:
        (said, *_) = found_in(data)
        assert said.says == "unknown" and "unread" in said.facts
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


def test_lengths_that_lie_are_held_against_the_bytes_that_are_there() -> None:
    cut = png(text("parameters", SETTINGS))[:80]
    assert [item.says for item in found_in(cut)] == ["unknown"]
    lying = hidden(b"x", b"stealth_pnginfo", 4)
    bits = np.unpackbits(np.frombuffer(struct.pack(">I", 2**31 - 8), np.uint8))
    column = lying[:, :, 3].T.copy().reshape(-1)
    column[120:152] = column[120:152] & 0xFE | bits
    lying[:, :, 3] = column.reshape(64, 64).T
    (said,) = found_in(encoded(lying))
    assert "more than there are" in said.detail
    missing = extended(FORMS["element"], size=10_000)
    assert any("not all there" in item.detail for item in found_in(missing))


def test_alpha_of_too_many_pixels_is_said_to_be_unread(monkeypatch) -> None:
    monkeypatch.setattr(_stealth, "MOST_PIXELS", 4_000)
    (said,) = found_in(SEEDS["hidden"])
    assert said.says == "unknown" and "4,096 pixels, at most 4,000" in said.facts["unread"]


def test_deep_json_and_numbers_without_end_are_no_objects() -> None:
    deep = '{"a":' * 100_000 + "1" + "}" * 100_000
    digits = f'{{"sui_image_params": {{"seed": {"9" * 10_000}}}}}'
    assert found_in(png(text("prompt", deep), text("parameters", digits))) == []
    (odd,) = found_in(png(text("parameters", '{"sui_image_params": {"seed": NaN, "model": [1], "prompt": 3}}')))
    assert odd.facts["tool"] == "SwarmUI" and odd.facts["seed"] == "nan" and "model" not in odd.facts
    assert sys.getrecursionlimit() < 100_000


def test_a_manifest_store_with_nothing_in_it_is_said_to_be_unread() -> None:
    pytest.importorskip("c2pa", reason="c2pa-python (extra provenance) is not installed")
    from detectors._c2pa import BOX

    (said,) = found_in(b"GIF89a" + BOX + b"\0" * 100)
    assert said.kind == "c2pa" and said.says == "unknown" and said.facts["integrity"] == "not_checked"
    (stray,) = found_in(png(text("note", BOX + b"x")))
    assert "where no manifest belongs" in stray.detail


def test_every_malformed_file_at_hand_is_read_without_an_exception() -> None:
    for path in sorted(shared("data", "malformed").rglob("*")):
        if path.is_file() and path.stat().st_size < 4 << 20:
            data = path.read_bytes()
            found_in(data)
            assert _carriers.carried(data).format in ("", "PNG", "JPEG", "WEBP", "TIFF")
