"""Marks of a generator's outputs: layers and chains counted by hand, texts under their key, the command."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy.stats import binomtest

from evalkit import registry
from evalkit.calibration import proportion
from evalkit.cli import run
from evalkit.errors import BadSetting, BadSource, NothingToEvaluate, UnknownName, UnreadableSample
from evalkit.marking.checking import checked
from evalkit.marking.embedding import XMP, XMP_KEY
from evalkit.marking.marks import layers_of, marks_of
from evalkit.marking.passages import USUAL, opener, passages_of
from evalkit.samples import open_samples
from evalkit.types import Evidence, MediaFile
from evalkit.watermarking import key_of
from tests.conftest import failed
from tests.toys import images

pytestmark = pytest.mark.usefixtures("at_home", "toys")
TOYS = ["--marks", "corner,label,seal"]


class Corner:
    """A watermark of one pixel: found where the first one is the payload's colour; not a mark that lasts."""

    name, digest = "corner", "toy:corner"

    def __init__(self, payloads: Mapping[str, str] | None = None) -> None:
        self.colour = list(bytes.fromhex(next(iter((payloads or {"": "010203"}).values()))))

    def testify(self, file: MediaFile) -> Sequence[Evidence]:
        assert file.pixels is not None
        if file.pixels.shape[0] == 13:
            raise ValueError("thirteen rows")
        found = file.pixels[0, 0].tolist() == self.colour
        return [Evidence("watermark", "synthetic" if found else "unknown", "strong", "corner", "a pixel")]


class Label:
    """Unsigned metadata: found where the bytes of the file hold IPTC's word."""

    name, digest = "label", "toy:label"

    def testify(self, file: MediaFile) -> Sequence[Evidence]:
        found = b"trainedAlgorithmicMedia" in file.data
        return [Evidence("metadata", "synthetic", "claim", "iptc", "a word")] if found else []


class Seal:
    """Signed metadata: found where the file ends in a chunk that no encoder copies."""

    name, digest = "seal", "toy:seal"

    def testify(self, file: MediaFile) -> Sequence[Evidence]:
        if b"toy-seal" not in file.data:
            return []
        facts = {"integrity": "intact", "signer": "untrusted"}
        return [Evidence("c2pa", "synthetic", "claim", "c2pa", "a manifest", facts)]


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (Corner, Label, Seal):
        monkeypatch.setitem(registry.detectors._added, part.name, part)


def output(path: Path, seed: int, *, corner: bool = False, label: bool = False, seal: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(10, 240, (24, 24, 3)).astype(np.uint8)
    if corner:
        pixels[0, 0] = (1, 2, 3)
    notes = PngInfo()
    if label:
        notes.add_itxt(XMP_KEY, XMP)
    Image.fromarray(pixels).save(path, pnginfo=notes)
    if seal:
        path.write_bytes(path.read_bytes() + b"toy-seal")


@pytest.fixture
def outputs() -> Path:
    """Eight files: six with the watermark, four of them with a label, two of these sealed; a real folder of five."""
    for i in range(8):
        output(Path(f"outputs/{i}.png"), i, corner=i < 6, label=i < 4, seal=i < 2)
    for i in range(5):
        output(Path(f"real/{i}.png"), 100 + i)
    return Path("outputs")


# Counting -------------------------------------------------------------------------------------------------------------


def test_layers_and_chains_are_the_counts_made_by_hand(outputs: Path) -> None:
    study = checked(
        open_samples(outputs),
        open_samples("real"),
        marks=["corner", "label", "seal"],
        chains=["resaved", "stripped", "jpeg75", "upscale2"],
    )
    counts = {chain: {row: n["count"] for row, n in rows.items()} for chain, rows in study.data["chains"].items()}
    none = dict.fromkeys(("trusted", "signed", "unsigned", "metadata", "watermark", "both", "corner"), 0)
    assert counts["copy"] == {**none, "signed": 2, "unsigned": 4, "metadata": 4, "watermark": 6, "both": 4, "corner": 6}
    # The label is carried over and the seal is not; without metadata the pixels still have the mark; JPEG takes both.
    assert counts["resaved"] == {**counts["copy"], "signed": 0}
    assert counts["stripped"] == {**none, "watermark": 6, "corner": 6}
    assert counts["jpeg75"] == none
    found = study.data["chains"]["copy"]["watermark"]
    low, high = binomtest(6, 8).proportion_ci(0.95, "exact")
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-12) and found["n"] == 8
    alarms = study.data["false_alarms"]["jpeg75"]["watermark"]
    assert (alarms["count"], alarms["n"]) == (0, 5) and alarms["high"] == pytest.approx(1 - 0.025 ** (1 / 5))
    assert [f["layers"] for f in study.data["files"]][3] == ["both", "corner", "metadata", "unsigned", "watermark"]


def test_a_layer_needs_a_word_that_the_file_was_generated() -> None:
    def one(kind: Any, says: Any, strength: Any = "claim") -> tuple[str, Evidence]:
        return "mine", Evidence(kind, says, strength, "reader", "words")

    assert layers_of([one("c2pa", "synthetic", "strong")]) == {"trusted", "signed", "metadata"}
    assert layers_of([one("c2pa", "edited"), one("watermark", "synthetic")]) == {
        "signed", "metadata", "watermark", "mine", "both",
    }  # fmt: skip
    for silent in (one("c2pa", "unknown", "strong"), one("metadata", "authentic"), one("watermark", "unknown")):
        assert layers_of([silent]) == frozenset()
    assert layers_of([one("fingerprint", "synthetic"), one("watermark", "synthetic", "hint")]) == frozenset()


def test_what_resaving_carries_over_is_read_back_by_another_reader() -> None:
    notes, exif = PngInfo(), Image.Exif()
    notes.add_itxt(XMP_KEY, XMP)
    notes.add_text("parameters", "a cat, Steps: 20")
    exif[305] = "a tool"
    Image.new("RGB", (16, 16), (9, 8, 7)).save("one.png", pnginfo=notes, exif=exif)
    Image.new("RGB", (16, 16)).save("two.jpg", exif=exif, xmp=XMP.encode())
    kept, bare = passages_of(["resaved", "stripped"], "image")[1:]
    for name, texts in (("one.png", {XMP_KEY: XMP, "parameters": "a cat, Steps: 20"}), ("two.jpg", {XMP_KEY: XMP})):
        data = Path(name).read_bytes()
        pixels = np.asarray(Image.open(name).convert("RGB"))
        file = MediaFile(data, name[-3:].upper(), "image", pixels=pixels)
        with Image.open(io.BytesIO(kept(file, 0).data)) as again:
            assert dict(again.text) == texts and again.getexif()[305] == "a tool"
            assert np.array_equal(np.asarray(again), pixels)
        with Image.open(io.BytesIO(bare(file, 0).data)) as again:
            assert not again.text and not again.getexif() and np.array_equal(np.asarray(again), pixels)


def test_a_file_in_an_archive_is_the_same_file_and_an_array_has_none(outputs: Path) -> None:
    with zipfile.ZipFile("outputs.zip", "w") as archive:
        for path in sorted(outputs.iterdir()):
            archive.write(path, path.name)
    marks = ["corner", "label", "seal"]
    packed = checked(open_samples("outputs.zip"), marks=marks, chains=["stripped"])
    assert packed.data["chains"] == checked(open_samples(outputs), marks=marks, chains=["stripped"]).data["chains"]
    bare = checked(images(3, size=16), marks=marks, chains=["stripped"])
    assert bare.data["chains"]["copy"]["metadata"]["count"] == 0
    assert "are no files of their own" in bare.warnings[0]
    file, stored = opener(open_samples(outputs))(next(iter(open_samples(outputs))))
    assert stored and file.data == (outputs / "0.png").read_bytes() and file.format == "PNG"


def test_the_same_seed_gives_the_same_study_and_a_broken_mark_is_told(outputs: Path) -> None:
    Image.fromarray(np.full((13, 13, 3), 7, np.uint8)).save(outputs / "thirteen.png")
    (outputs / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    one, two = (
        checked(open_samples(outputs), marks=["corner"], chains=["crop0.8", "noise"], seed=3, command="x")
        for _ in range(2)
    )
    assert one == two
    assert [(name, e.id) for name, e in one.excluded] == [("outputs", "torn.png")]
    assert any("corner failed 2 times" in w and "thirteen rows" in w for w in one.warnings)


def test_chains_go_by_name_by_family_and_all() -> None:
    assert [p.name for p in passages_of(["resize", "jpeg75", "jpeg"], "image")] == [
        "copy", "resize0.9", "resize0.5", "jpeg75", "jpeg95", "jpeg85", "jpeg50",
    ]  # fmt: skip
    assert [p.name for p in passages_of([], "image")] == ["copy", *USUAL]
    assert {p.name for p in passages_of(["all"], "image")} > {"resaved", "rine_combined", "recapture"}
    assert "whitespace" in {p.name for p in passages_of([], "text")}
    for names in (["jpg75"], ["whitespace"], ["crop0.8x"]):
        with pytest.raises(UnknownName, match="chain"):
            passages_of(names, "image")


# Texts ----------------------------------------------------------------------------------------------------------------


def keyed(folder: Path, n: int = 6) -> None:
    """Texts of letters drawn with a KGW key, and set.json with that key beside them."""
    import torch

    letters = list("abcdefghijklmnopqrstuvwxyz .,")
    about = {
        "schema": "evalkit.watermark/1", "scheme": "kgw", "vocabulary": len(letters) + 1, "key": 7, "gamma": 0.25,
        "delta": 8.0, "device": "cpu", "tokenizer": {"kind": "character_pairs", "alphabet": letters, "merges": []},
    }  # fmt: skip
    key, rng = key_of(about, folder, "here"), torch.Generator().manual_seed(0)
    folder.mkdir()
    (folder / "set.json").write_text(json.dumps({"watermark": about}))
    for i in range(n):
        tokens = [1 + i]
        for _ in range(120):
            logits = torch.zeros(1, len(letters) + 1)
            logits[0, 0] = -1e9  # the end
            # The scheme pushes towards green tokens, and draws.
            logits = key.scheme.biased(logits, [tokens])
            tokens.append(int(key.scheme.choose(logits, [tokens], rng)[0]))
        (folder / f"{i}.txt").write_text("".join(letters[t - 1] for t in tokens))


def test_texts_are_judged_by_the_key_beside_them() -> None:
    keyed(Path("texts"))
    samples = open_samples("texts")
    study = checked(samples, open_samples(["nothing of this kind was ever drawn with a key. " * 4] * 3), chains=[])
    assert study.data["chains"]["copy"]["kgw"]["count"] == 6
    assert study.data["chains"]["copy"]["metadata"]["count"] == 0
    assert study.data["false_alarms"]["copy"]["watermark"]["count"] == 0
    # A letter that no token stands for is passed over: between letters it is harmless, in place of one it is not.
    assert study.data["chains"]["zero_width_space"]["kgw"]["count"] == 6
    assert study.data["chains"]["homoglyph"]["kgw"]["count"] < 6
    with pytest.raises(BadSetting, match=r"expected synthid"):
        marks_of(["synthid:texts/set.json"], {}, samples)
    Path("texts/set.json").unlink()
    with pytest.raises(BadSetting, match=r"kgw:KEY\.json"):
        marks_of([], {}, open_samples("texts"))


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_says_what_is_there_and_leaves_with_the_right_code(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [f for suffix in ("json", "csv", "md", "html") for f in ("-o", f"marks.{suffix}")]
    assert run(["marking", "outputs", *TOYS, "--real", "real", "--chains", "jpeg75", *files]) == 0
    said = capsys.readouterr().out
    assert "0.75 [0.35, 0.97]" in said and "legal advice" in said and "integrity intact, signer untrusted" in said
    assert Path("marks.html").read_text().lower().startswith("<!doctype html")
    document = json.loads(Path("marks.json").read_text())
    assert document["schema"] == "evalkit.marking/1" and document["marks"]["seal"] == "toy:seal"
    short = ["marking", "outputs", *TOYS, "--chains", "stripped"]
    assert run([*short, "--require", "metadata"]) == 1
    assert run([*short, "--require", "watermark:0.3", "--survive", "corner=stripped:0.3"]) == 0
    assert run([*short, "--require", "watermark:0.9"]) == 4
    assert run([*short, "--require", "watermark:0.9", "--survive", "watermark=jpeg75"]) == 1
    capsys.readouterr()
    assert run([*short, "--require", "metadata", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["asked"][0]["answer"] == "failed"


def test_what_cannot_be_asked_is_refused_before_a_file_is_read(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for extra, words in (
        ([*TOYS, "--require", "wotermark"], "did you mean 'watermark'"),
        (["--chains", "jpeg7"], "did you mean"),
        (["--marks", "cnn"], "reads no marks"),
        (["--marks", "cornr"], "did you mean 'corner'"),
        ([*TOYS, "--payload", "dwtdct=00"], "not looked for"),
        ([*TOYS, "--payload", "corner"], "NAME=HEX"),
        (["--embed", "dwtdct=00"], "belong together"),
        ([*TOYS, "-o", "x.txt"], "suffix"),
    ):
        code, line = failed(capsys, ["marking", "outputs", *extra])
        assert code == 2 and words in line, (extra, line)


def test_outputs_are_never_their_own_reals_and_nothing_readable_is_nothing(outputs: Path) -> None:
    with pytest.raises(BadSource, match="among the reals"):
        checked(open_samples(outputs), open_samples(outputs), marks=["corner"], chains=["stripped"])
    Path("torn").mkdir()
    Path("torn/a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(NothingToEvaluate):
        checked(open_samples("torn"), marks=["corner"], chains=["stripped"])
    assert proportion(0, 8).low == 0.0
    with pytest.raises(UnreadableSample):
        passages_of(["double_jpeg"], "image")[1](
            MediaFile(b"", "PNG", "image", pixels=np.zeros((9, 9, 3), np.uint8)), 0
        )
