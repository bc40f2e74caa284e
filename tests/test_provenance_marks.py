"""Marks of origin that are not signed, each in a file made by hand: XMP, texts of tools, hidden texts, EXIF, labels."""

from __future__ import annotations

import json
import struct

import pytest

from detectors._exif import comment_of, generator_named
from detectors._source_types import TERMS, says_of, term_of
from detectors._wording import SENTENCES, visible
from detectors.provenance import Provenance
from tests.marked import (
    TERM,
    chunk,
    encoded,
    exif,
    hidden,
    jpeg,
    jpeg_xmp,
    opened,
    packed,
    pixels,
    png,
    text,
    webp,
    xmp,
)

WITNESS = Provenance(at="2026-11-22T00:00:00+00:00")
SETTINGS = "a duck\nNegative prompt: mono\nSteps: 15, Sampler: UniPC, CFG scale: 5, Seed: 23, Size: 8x8, Model: real, v"
HEAD = b"http://ns.adobe.com/xap/1.0/\0"
EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"


def evidence_in(data: bytes):
    return WITNESS.testify(opened(data))


def one(data: bytes):
    (found,) = evidence_in(data)
    return found


def tool(data: bytes) -> dict[str, object]:
    found = one(data)
    assert found.says == "synthetic" and found.strength == "claim" and found.kind == "metadata"
    assert found.detail.endswith(SENTENCES["unsigned"])
    return dict(found.facts)


TRAINED = TERM + "trainedAlgorithmicMedia"
FORMS = {
    "attribute": xmp(f'e:DigitalSourceType="{TRAINED}"'),
    "element": xmp(elements=f"<e:DigitalSourceType>{TRAINED}</e:DigitalSourceType>"),
    "resource": xmp(elements=f'<e:DigitalSourceType rdf:resource="{TRAINED}"/>'),
    "list": xmp(elements=f"<e:DigitalSourceType><rdf:Bag><rdf:li>{TRAINED}</rdf:li></rdf:Bag></e:DigitalSourceType>"),
    "bare": xmp('e:DigitalSourceType="trainedAlgorithmicMedia"'),
}


def extended(packet: bytes, name: bytes = b"0" * 32, size: int | None = None) -> bytes:
    """The main packet names an extended one, which comes in two pieces, the second first."""
    half, size = len(packet) // 2, len(packet) if size is None else size
    parts = [
        EXTENSION + name + struct.pack(">II", size, at) + body
        for at, body in ((half, packet[half:]), (0, packet[:half]))
    ]
    return jpeg(HEAD + xmp(f'xmpNote:HasExtendedXMP="{"0" * 32}"'), *parts)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "carry",
    [
        jpeg_xmp,
        lambda packet: png(text("XML:com.adobe.xmp", packet, b"iTXt")),
        lambda packet: png(text("XML:com.adobe.xmp", packet, b"tEXt"), behind=True),
        lambda packet: webp(b"XMP ", packet),
        lambda packet: encoded(pixels(), "TIFF", tiffinfo={700: packet}),
        extended,
    ],
    ids=["jpeg", "png", "png-behind", "webp", "tiff", "jpeg-extended"],
)
def test_a_source_type_is_read_in_every_form_and_container(form, carry) -> None:
    found = one(carry(FORMS[form]))
    assert (found.says, found.strength, found.source) == ("synthetic", "claim", "XMP")
    assert found.facts == {"digital_source_types": ["trainedAlgorithmicMedia"]}
    assert "C2PA" not in found.detail and found.detail.endswith(SENTENCES["unsigned"])


def test_a_term_is_the_whole_value_of_the_files_own_property() -> None:
    assert one(jpeg_xmp(xmp(f'e:DigitalSourceType="{TERM}compositeWithTrainedAlgorithmicMedia"'))).says == "edited"
    neighbour = one(jpeg_xmp(xmp(f'e:DigitalSourceType="{TRAINED}rallActionsIncluded"')))
    assert (neighbour.says, neighbour.strength) == ("unknown", "hint")
    assert evidence_in(jpeg_xmp(xmp(f'photoshop:Instructions="{TRAINED}"'))) == []
    inside = f"<e:DigitalSourceType>{TRAINED}</e:DigitalSourceType>"
    other = f'<xmpMM:DerivedFrom rdf:parseType="Resource">{inside}</xmpMM:DerivedFrom>'
    assert evidence_in(jpeg_xmp(xmp(elements=other))) == [], "what it was derived from is another file"
    assert evidence_in(png(text("note", TRAINED))) == []
    assert evidence_in(extended(FORMS["bare"], b"1" * 32)) == [], "an extended packet that the main one does not name"


def test_terms_sort_into_kinds_and_a_mixture_is_an_edit() -> None:
    assert [says_of([t]) for t in ("digitalCapture", "algorithmicMedia", "composite", "screenCapture")] == [
        "authentic",
        "synthetic",
        "edited",
        "unknown",
    ]
    assert says_of(["digitalCapture", "trainedAlgorithmicMedia"]) == "edited" and says_of([]) == "unknown"
    assert term_of(f"  {TERM}print ") == "print" and term_of("Print") is None and term_of(3) is None
    assert all(
        term_of(space + name) == name for name in TERMS for space in ("", TERM, "http://c2pa.org/digitalsourcetype/")
    )


def test_other_properties_that_name_an_ai_are_claims() -> None:
    system = one(jpeg_xmp(xmp('e:AISystemUsed="Some Model" e:AISystemVersionUsed="3"')))
    assert system.says == "synthetic" and system.facts["ai_system"] == "Some Model 3"
    assert one(jpeg_xmp(xmp('photoshop:Credit="Made with Google AI"'))).says == "synthetic"
    assert one(jpeg_xmp(xmp('photoshop:Credit="Edited with Google AI"'))).says == "edited"
    assert evidence_in(jpeg_xmp(xmp('photoshop:Credit="Not made with Google AI"'))) == []
    assert tool(jpeg_xmp(xmp('xmp:CreatorTool="Adobe Firefly 3"')))["tool"] == "Adobe Firefly"
    assert evidence_in(jpeg_xmp(xmp('xmp:CreatorTool="Adobe Photoshop 26.9 (Macintosh)"'))) == []


JSON = {
    "SwarmUI": {
        "parameters": {"sui_image_params": {"prompt": "a duck", "model": "real", "seed": 23, "sampler": "UniPC"}}
    },
    "Fooocus": {
        "parameters": {
            "version": "Fooocus v2",
            "prompt": "a duck",
            "base_model": "real",
            "seed": "23",
            "sampler": "UniPC",
        }
    },
    "InvokeAI": {
        "invokeai_metadata": {
            "positive_prompt": "a duck",
            "seed": 23,
            "scheduler": "UniPC",
            "model": {"model_name": "real"},
        }
    },
    "ComfyUI": {
        "prompt": {
            "3": {"class_type": "KSampler", "inputs": {"seed": 23, "sampler_name": "UniPC", "model": ["4", 0]}},
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "real"}},
            "5": {"class_type": "CLIPTextEncode", "inputs": {"text": "a duck"}},
        }
    },
}
KNOWN = {"model": "real", "sampler": "UniPC", "seed": "23", "prompt": "a duck", "prompt_length": 6}


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
def test_json_of_each_tool_gives_its_settings(name, kind) -> None:
    facts = tool(png(*(text(key, json.dumps(value), kind) for key, value in JSON[name].items())))
    assert facts["tool"] == name and facts.items() >= KNOWN.items()


def test_a1111s_settings_are_read_from_texts_comments_and_hidden_bits() -> None:
    in_exif = exif({}, b"UNICODE\0" + SETTINGS.encode("utf-16-be"))
    alpha = {
        mark: hidden(body, mark, 4)
        for mark, body in ((b"stealth_pnginfo", SETTINGS.encode()), (b"stealth_pngcomp", packed(SETTINGS)))
    }
    rgb = {
        mark: hidden(body, mark, 3)
        for mark, body in ((b"stealth_rgbinfo", SETTINGS.encode()), (b"stealth_rgbcomp", packed(SETTINGS)))
    }
    files = {
        "PNG text": png(text("parameters", SETTINGS)),
        "EXIF": jpeg(in_exif),
        "hidden text in alpha": encoded(alpha[b"stealth_pnginfo"]),
        "hidden text in rgb": encoded(rgb[b"stealth_rgbcomp"]),
    }
    others = [webp(b"EXIF", in_exif), encoded(alpha[b"stealth_pngcomp"]), encoded(rgb[b"stealth_rgbinfo"])]
    for source, data in files.items():
        assert one(data).source == source
    for data in (*files.values(), *others):
        facts = tool(data)
        assert facts["tool"] == "AUTOMATIC1111" and facts.items() >= (KNOWN | {"steps": "15"}).items()
    novel = {"Software": "NovelAI", "Source": "NovelAI Diffusion", "Description": "a duck", "Comment": '{"seed": 23}'}
    assert tool(encoded(hidden(packed(json.dumps(novel)), b"stealth_pngcomp", 4)))["tool"] == "NovelAI"
    bare = one(encoded(hidden(b"something", b"stealth_pnginfo", 4)))
    assert bare.says == "synthetic" and bare.facts["text"] == "something"
    assert evidence_in(encoded(pixels(2, (64, 64), 4))) == []


def test_settings_are_parted_at_commas_outside_of_quotes() -> None:
    line = SETTINGS.replace(", v", ', Lora hashes: "Seed: 9, Model: no", Version: v1.9')
    facts = tool(png(text("parameters", line)))
    assert (facts["seed"], facts["model"], facts["version"]) == ("23", "real", "v1.9")
    assert tool(png(text("parameters", line.replace("v1.9", "Fooocus v2"))))["tool"] == "Fooocus"
    assert one(png(text("parameters", "Postprocess upscale by: 4"))).says == "edited"
    assert evidence_in(png(text("parameters", "Steps: many, and no sampler"))) == []


def test_other_texts_and_where_other_files_keep_them() -> None:
    dream = tool(png(text("Dream", '"a "fine" duck [fog]" -s 50 -S 23 -A k_lms -W 512')))
    assert (dream["tool"], dream["seed"], dream["sampler"], dream["steps"]) == ("InvokeAI", "23", "k_lms", "50")
    job = "a duck --ar 4:3 --niji 5 Job ID: 2b6e053b-9a65-4ca9-9e13-b6f4465164d4"
    for data in (png(text("Description", job)), jpeg(exif({0x010E: job}))):
        assert tool(data).items() >= {"tool": "Midjourney", "model": "niji 5"}.items()
    graph = json.dumps(JSON["ComfyUI"]["prompt"])
    assert tool(webp(b"EXIF", exif({0x0110: f"prompt:{graph}", 0x010F: "workflow:{}"})))["tool"] == "ComfyUI"
    drawn = {
        "nodes": [
            {"type": "KSampler", "widgets_values": [23, "fixed", 20]},
            {"type": "CheckpointLoaderSimple", "widgets_values": ["real"]},
        ],
        "links": [],
    }
    assert tool(png(text("workflow", json.dumps(drawn)))).items() >= {"seed": "23", "model": "real"}.items()
    comment = json.dumps({"c": "a duck", "model": "real", "sampler": "UniPC", "seed": 23}).replace('"', "&quot;")
    facts = tool(jpeg_xmp(xmp(f'xmp:CreatorTool="Draw Things" exif:UserComment="{comment}"')))
    assert facts["tool"] == "Draw Things" and facts.items() >= KNOWN.items()
    assert evidence_in(png(text("Description", "no job"), text("prompt", "a duck"), text("Software", "gimp"))) == []


@pytest.mark.parametrize(
    ("label", "says", "strength"),
    [
        ("1", "synthetic", "claim"),
        (1, "synthetic", "claim"),
        ("2", "synthetic", "hint"),
        ("3", "synthetic", "hint"),
        ("7", "unknown", "hint"),
    ],
)
def test_chinas_label_is_read_wherever_it_may_stand(label, says, strength) -> None:
    body = json.dumps({"Label": label, "ContentProducer": "001191", "ProduceID": "x\x07"})
    quoted = body.replace('"', "&quot;")
    wrapped = json.dumps({"AIGC": json.loads(body)})
    files = [
        png(text("AIGC", body)),
        jpeg_xmp(xmp(elements=f"<TC260:AIGC>{body}</TC260:AIGC>")),
        png(text("XML:com.adobe.xmp", xmp(f'TC260:AIGC="{quoted}"'), b"iTXt")),
        jpeg(exif({}, b"ASCII\0\0\0" + wrapped.encode())),
    ]
    for data in files:
        found = one(data)
        assert (found.says, found.strength) == (says, strength)
        assert found.facts["ContentProducer"] == "001191" and found.facts["standard"] == "GB 45438-2025"
        assert found.facts["ProduceID"] == "x\\x07" and str(label) in found.detail
    assert evidence_in(png(text("AIGC", '{"mine": 1}'))) == [] and evidence_in(png(text("AIGC", "yes"))) == []


def test_exif_names_generators_as_claims_and_cameras_as_hints() -> None:
    camera = exif({0x010F: "Canon", 0x0110: "Canon EOS R5", 0x0131: "Adobe Lightroom"})
    found = one(jpeg(camera))
    assert (found.says, found.strength) == ("authentic", "hint") and "anyone can write it" in found.detail
    assert found.facts == {"make": "Canon", "model": "Canon EOS R5", "exposure": False, "software": "Adobe Lightroom"}
    assert one(encoded(pixels(), "TIFF", tiffinfo={0x010F: "Canon", 0x0110: "EOS"})).says == "authentic"
    assert evidence_in(jpeg(exif({0x010F: "Canon"}))) == []
    artist = "4800156b-8880-4786-9056-7ca3da449d8c"
    assert tool(jpeg(exif({0x010E: "Signature: abc=", 0x013B: artist})))["tool"] == "xAI Grok"
    assert evidence_in(jpeg(exif({0x010E: "Signature: abc=", 0x013B: "A. Person"}))) == []
    assert evidence_in(jpeg(exif({0x010E: "a picture", 0x013B: artist}))) == []
    both = one(jpeg(exif({0x010F: "Canon", 0x0110: "EOS", 0x0131: "Midjourney 6"})))
    assert both.says == "synthetic", "a file that names a generator names no camera to believe"
    names = {"DALL-E 3": "DALL-E", "ComfyUI": "ComfyUI", "OpenAIx": "", "My Midjourney": "", "dall·e": "DALL-E", "": ""}
    assert {name: generator_named(name) for name in names} == names
    assert tool(png(chunk(b"eXIf", exif({0x0131: "NovelAI"})[6:]), text("Software", "novelai ")))["tool"] == "NovelAI"


def test_a_comment_is_decoded_by_its_code_and_either_byte_order() -> None:
    for name in ("utf-16-be", "utf-16-le"):
        assert comment_of(b"UNICODE\0" + "Stéps: 1".encode(name)) == "Stéps: 1"
    assert comment_of(b"ASCII\0\0\0abc\0") == "abc" == comment_of(b"\0" * 8 + b"abc") == comment_of(b"abc")
    assert comment_of(3) == ""


def samsung(kind: object) -> bytes:
    name, body = b"PhotoEditor_Re_Edit_Data", json.dumps({"genAIType": kind}).encode()
    block = struct.pack("<HHI", 0, 0x0BA1, len(name)) + name + body
    entry = struct.pack("<HHII", 0, 0x0BA1, len(block), len(block))
    directory = b"SEFH" + struct.pack("<II", 107, 1) + entry
    return encoded(pixels(), "JPEG") + block + directory + struct.pack("<I", len(directory)) + b"SEFT"


def test_samsungs_generative_edits_are_told_from_its_other_edits() -> None:
    found = one(samsung(7))
    assert (found.says, found.strength, found.facts["gen_ai_type"]) == ("edited", "claim", "7")
    assert [evidence_in(samsung(kind)) for kind in (0, True, "7", None)] == [[], [], [], []]
    assert evidence_in(samsung(7)[:-1]) == [] and evidence_in(samsung(7) + b"SEFT") == []


def test_words_from_a_file_are_made_visible_and_cut() -> None:
    facts = tool(png(text("parameters", "\x1b[2J\u202egpj<script>" + "y" * 900 + SETTINGS)))
    assert facts["prompt"].startswith("\\x1b[2J\\u202egpj<script>yyy") and facts["prompt_length"] > 900
    assert len(facts["prompt"]) < 520 and "\x1b" not in str(facts) and "\u202e" not in str(facts)
    assert visible("a\n b\u200bc\ud800") == "a b\\u200bc\\ud800" and visible("x" * 300) == "x" * 200


def test_nothing_found_is_an_empty_list() -> None:
    for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        assert evidence_in(encoded(pixels(), name)) == []
    assert evidence_in(b"") == [] and evidence_in(b"plain text") == [] and "unknown" in SENTENCES["absent"]
