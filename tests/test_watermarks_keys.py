"""Key files and the detectors they make: strict reading, tokenizers against their libraries, abstention, end to end."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from detectors._watermark import p_fake_of
from detectors.exp_watermark import ExpWatermark
from detectors.kgw import KGW
from detectors.synthid import SynthID
from evalkit import registry
from evalkit.detection import load_detector
from evalkit.errors import BadSetting, BadSource, EvalkitError, UnknownName, UnreadableSample, UsageError
from evalkit.measurement import Bench, measure
from evalkit.samples import open_samples
from evalkit.samples.arrays import from_texts
from evalkit.watermarking import read_key, watermark_test
from evalkit.watermarking.tokenizers import BytePairs, CharacterPairs, ScoredPieces, byte_letters, read_merges
from generators._bpe import learn
from generators.lm import Lm

from .data import shared

LETTERS = [chr(i) for i in range(32, 127)]
PLAIN = {
    "schema": "evalkit.watermark/1",
    "scheme": "kgw",
    "vocabulary": 96,
    "device": "cpu",
    "tokenizer": {"kind": "character_pairs", "alphabet": LETTERS, "merges": []},
}
SMALL = {"steps": 60, "width": 32, "layers": 1, "vocabulary": 300, "context": 64}


def written(tmp_path, **changes):
    path = tmp_path / "key.json"
    path.write_text(json.dumps({**PLAIN, **changes}), "utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small language model that was trained to leave KGW's mark."""
    place = tmp_path_factory.mktemp("lm") / "model"
    generator = Lm(**SMALL, watermark="kgw", delta=6.0)
    generator.fit(open_samples("embedded:prose/train"), seed=0)
    generator.save(place)
    return place


def loaded(folder, **controls):
    generator = Lm(**{**SMALL, **controls})
    generator.load(folder)
    return generator


def drawn(generator, n, seed=0):
    return [t for batch in generator.sample(n, seed) for t in batch.items]


# ---------------------------------------------------------------------------------------------- key files


def test_a_key_file_says_all_and_a_test_is_three_numbers(tmp_path):
    key = read_key(written(tmp_path, gamma=0.5))
    z, p, n = watermark_test("how now, brown cow; the rain in Spain", key)
    assert n > 20 and 0 < p <= 1 and math.isfinite(z)
    assert watermark_test("", key) == (0.0, 1.0, 0)
    assert key.digest != read_key(written(tmp_path, gamma=0.25)).digest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": "evalkit.watermark/2"}, "evalkit.watermark/1"),
        ({"scheme": "kwg"}, "did you mean 'kgw'"),
        ({"gama": 0.5}, "did you mean 'gamma'"),
        ({"gamma": math.nan}, "gamma = nan"),
        ({"gamma": 1.5}, "from 0 to 1"),
        ({"device": ""}, "cpu, cuda"),
        ({"device": None}, "cpu, cuda"),
        ({"vocabulary": True}, "whole number"),
        ({"vocabulary": 50}, "96 tokens and the vocabulary 50"),
        ({"key": -1}, "whole number"),
        ({"key": 1.5}, "whole number"),
        ({"fpr": 0}, "fpr"),
        ({"least_tokens": 0}, "least_tokens"),
        ({"tokenizer": "gpt2"}, "needs a kind"),
        ({"tokenizer": {"kind": "byte_pairs", "vocab": "no.json", "merges": "no.txt"}}, "no.json cannot be read"),
        ({"tokenizer": {"kind": "character_pairs", "alphabet": ["a"], "merges": [[1, 9]]}}, "damaged"),
        ({"tokenizer": {"kind": "model_folder", "folder": "none"}}, "no language model"),
        ({"scheme": "synthid"}, "either `keys`"),
        ({"scheme": "synthid", "keys": [1, 1]}, "differ"),
        ({"scheme": "exp", "ngram": 0}, "ngram = 0"),
    ],
)
def test_a_bad_key_file_is_refused_in_one_line(tmp_path, changes, said):
    with pytest.raises(UsageError, match=said) as caught:
        read_key(written(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_what_is_no_key_file_is_refused(tmp_path):
    with pytest.raises(BadSource, match="cannot be read"):
        read_key(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("{", "utf-8")
    with pytest.raises(BadSource, match="not JSON"):
        read_key(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("[]", "utf-8")
    with pytest.raises(BadSetting, match="no watermark key"):
        read_key(tmp_path / "x.json")


def test_a_vocabulary_far_from_the_tokenizers_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match="another model's tokenizer"):
        load_detector(f"kgw:{written(tmp_path, vocabulary=200)}")
    assert read_key(written(tmp_path, vocabulary=98)).warnings == ()


# ---------------------------------------------------------------------------------------------- tokenizers


def test_byte_pairs_are_those_of_the_tokenizers_library():
    library = pytest.importorskip("tokenizers")
    from tokenizers import models, pre_tokenizers

    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("'", "s"), ("Ġ", "a"), ("1", "2")]
    names = [*byte_letters().values(), *(a + b for a, b in merges)]
    numbers = {name: i for i, name in enumerate(names)}
    theirs = library.Tokenizer(models.BPE(numbers, merges))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ours = BytePairs(numbers, merges)
    rng = np.random.default_rng(0)
    odd = list("the in's 12 ²½Ⅳ é\u0301 漢😀\n\t\u3000\x85\x1c'll've 'S_-…")
    texts = ["", " ", "it's the thing  in \n\n the   12th", *("".join(rng.choice(odd, 30)) for _ in range(300))]
    assert [ours.encode(t) for t in texts] == [theirs.encode(t).ids for t in texts]


def test_character_pairs_are_those_of_the_lm():
    texts = ["the rain in Spain stays", "mainly in the plain, in the rain!", "them then"] * 3
    bpe = learn(texts, 60)
    ours = CharacterPairs(bpe.alphabet, bpe.merges)
    assert ours.size == len(bpe)
    for text in (*texts, "then Z the \n stain"):
        assert ours.encode(text) == bpe.encode(text)


def test_scored_pieces_read_the_documented_start_and_refuse_others():
    with pytest.raises(BadSource, match=r"tokenizer\.bin"):
        ScoredPieces.read(b"\x01\x00\x00\x00\xff")
    pieces = ScoredPieces(
        [b"<unk>", b"<s>", b"</s>", *(b"<%d>" % i for i in range(256)), b" ", b"a", b" a"], [0.0] * 262
    )
    assert pieces.encode("a!") == [261, ord("!") + 3] and pieces.encode("") == []


def test_merges_that_are_no_pairs_are_refused():
    assert read_merges("#version: 0.2\na b\n") == [("a", "b")]
    with pytest.raises(BadSource, match="a b c"):
        read_merges("a b c\n")


# ---------------------------------------------------------------------------------------------- detectors


@pytest.mark.parametrize(("name", "cls"), [("kgw", KGW), ("synthid", SynthID), ("exp_watermark", ExpWatermark)])
def test_a_detector_needs_its_own_kind_of_key(tmp_path, name, cls):
    assert registry.detectors.get(name) is cls
    with pytest.raises(UsageError, match=f"{name}:KEY.json"):
        load_detector(name)
    other = written(tmp_path, scheme="exp" if name == "kgw" else "kgw")
    with pytest.raises(BadSetting, match="expected"):
        load_detector(f"{name}:{other}")
    with pytest.raises(UsageError, match="nothing to learn"):
        cls().fit(from_texts(["a"]), from_texts(["b"]), seed=0)


def test_p_fake_falls_with_p_and_no_text_is_called_authentic(tmp_path):
    detector = load_detector(f"kgw:{written(tmp_path, fpr=0.01)}")
    low, high = detector.threshold
    p = [1e-300, 1e-9, 0.0099, 0.01, 0.0101, 0.5, 1.0]
    rows = [p_fake_of(x) for x in p]
    assert rows == sorted(rows, reverse=True) and min(rows) > low
    assert [r > high for r in rows] == [x < 0.01 for x in p]
    assert p_fake_of(1.0) == pytest.approx(1 / 3) and p_fake_of(0.01) == pytest.approx(5 / 6)


def test_a_short_text_is_left_out_with_the_reason_and_others_keep_their_evidence(tmp_path):
    detector = load_detector(f"kgw:{written(tmp_path)}")
    texts = from_texts(["too short", "how now, brown cow; the rain in Spain stays mainly in the plain"])
    found = measure(texts, [detector], Bench())
    assert [e.reason for e in found.excluded] == ["8 scored tokens of 9; a watermark verdict needs at least 16"]
    features = found.features[detector.name]
    key = detector.key
    z, p, n = watermark_test(str(list(texts)[1].load()), key)
    row = {name: float(features.head(name).rows[0, 0]) for name in ("p_fake", "log10_p", "z", "tokens")}
    assert row == pytest.approx({"p_fake": p_fake_of(p), "log10_p": math.log10(p), "z": z, "tokens": n}, rel=1e-5)
    with pytest.raises(UnreadableSample, match="0 scored tokens of 0"):
        detector.prepare("漢字" * 50)


@pytest.mark.parametrize("changes", [{"scheme": "synthid", "form": f, "keys": [1, 2]} for f in ("table", "hash")]
    + [{"scheme": "exp"}, {"scheme": "kgw"}, {"scheme": "kgw_selfhash"}])  # fmt: skip
def test_a_word_or_nothing_is_left_out_under_every_scheme(tmp_path, changes):
    name = {"exp": "exp_watermark", "kgw_selfhash": "kgw"}.get(changes["scheme"], changes["scheme"])
    detector = load_detector(f"{name}:{written(tmp_path, **changes)}")
    assert watermark_test("", detector.key) == (0.0, 1.0, 0)
    long = "how now, brown cow; the rain in Spain stays mainly in the plain"
    found = measure(from_texts(["w", "wor", long]), [detector], Bench())
    assert len(found.samples) == 1 and len(found.excluded) == 2
    assert found.excluded[0].reason == "0 scored tokens of 1; a watermark verdict needs at least 16"


# ---------------------------------------------------------------------------------------------- end to end


@pytest.mark.parametrize("mark", ["kgw", "kgw_selfhash", "synthid", "exp"])
def test_a_marked_lm_is_found_with_its_own_key_and_no_other(folder, tmp_path, mark):
    generator = loaded(folder, watermark=mark, delta=6.0)
    texts, plain = drawn(generator, 20), drawn(loaded(folder), 20)
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"schema": "evalkit.set/1", "watermark": generator.watermark}), "utf-8")
    key, other = read_key(path), dict(generator.watermark)
    joined, unmarked = " ".join(texts), " ".join(plain)
    assert watermark_test(joined, key).p < 1e-6 < watermark_test(unmarked, key).p
    path.write_text(json.dumps({**other, "key": 999_983}), "utf-8")
    assert watermark_test(joined, read_key(path)).p > 1e-6
    assert texts[:1] != drawn(generator, 1, seed=1)
    if mark != "kgw_selfhash":  # the slow one: a list for each candidate
        assert texts == drawn(loaded(folder, watermark=mark, delta=6.0), 20)


def test_without_a_mark_nothing_changes_and_no_key_is_told(folder):
    plain = loaded(folder)
    assert plain.watermark is None and plain.recipe == loaded(folder, watermark="exp").recipe
    # With delta 0 the bias is nothing and the draw is the ordinary one: the same numbers from the same seed.
    assert drawn(plain, 8) == drawn(loaded(folder, watermark="kgw", delta=0.0), 8)


def test_a_model_card_is_a_key_and_the_command_finds_the_mark(folder, tmp_path):
    samples = tmp_path / "samples.txt"
    texts = [t.replace("\n", " ") for t in drawn(loaded(folder, watermark="kgw", delta=6.0), 40)]
    samples.write_text("\n".join(texts), "utf-8")
    command = [
        sys.executable,
        "-m",
        "evalkit",
        "detect",
        str(samples),
        "--with",
        f"kgw:{folder / 'card.json'}",
        "--json",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={**_environment(), "EVALKIT_CACHE": str(tmp_path / "c")},
    )
    assert done.returncode == 0, done.stderr
    judged = json.loads(done.stdout)["detectors"][0]
    assert judged["verdicts"]["synthetic"] > 20 and "authentic" not in judged["verdicts"]
    assert judged["digest"] == load_detector(f"kgw:{folder / 'card.json'}").digest


def _environment():
    import os

    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_a_card_without_a_mark_is_refused(tmp_path):
    (tmp_path / "card.json").write_text(json.dumps({"schema": "evalkit.generator/1", "settings": {}}), "utf-8")
    with pytest.raises(EvalkitError, match="without a watermark"):
        read_key(tmp_path / "card.json")
    with pytest.raises(UnknownName):
        Lm(watermarks="kgw")
    with pytest.raises(BadSetting, match="kgw_selfhash"):
        Lm(watermark="red")


def test_the_key_file_of_the_documentation_reads_the_opt_vocabulary(tmp_path):
    folder = shared("data", "text", "synthid_markllm")
    tokenizer = {
        "kind": "byte_pairs",
        "vocab": str(folder / "opt_vocab.json"),
        "merges": str(folder / "gpt2_merges.txt"),
    }
    facts = {"scheme": "synthid", "vocabulary": 50272, "device": "cuda", "tokenizer": tokenizer, "key": 7}
    key = read_key(written(tmp_path, **facts))
    assert key.warnings == () and key.tokenizer.size == 50265
    assert watermark_test("The quick brown fox jumps over the lazy dog.", key).n == 6
