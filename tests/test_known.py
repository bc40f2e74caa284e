"""Known content: recorded hashes, hash lists with their bad lines, matches, near-duplicates against brute force."""

from __future__ import annotations

import hashlib
import json
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import evalkit.known
from evalkit.errors import BadSetting, BadSource
from evalkit.known import HashList, _pairs_near, detailed, groups, hashes, missing
from tests.data import shared

RNG = np.random.default_rng(0)
PDQ = RNG.bytes(32).hex()


def flipped(digits: str, bits) -> str:
    number = int(digits, 16)
    for bit in bits:
        number ^= 1 << int(bit)
    return f"{number:0{len(digits)}x}"


def apart(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def listed(tmp_path, text: str, name="list.txt") -> HashList:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return HashList.read(path)


# ---------------------------------------------------------------------------------------------- hashes


def test_hashes_are_the_recorded_ones():
    pytest.importorskip("pdqhash")
    pytest.importorskip("imagehash")
    folder = shared("data/image/pdq_bridge_mods")
    recorded = json.loads((folder / "expected_hashes.json").read_text("utf-8"))["hashes"]
    assert len(recorded) == 10
    found = {name: hashes(np.array(Image.open(folder / name).convert("RGB"))) for name in recorded}
    for name, row in recorded.items():
        assert found[name] == {"pdq": row["pdq"], "pdq_quality": row["quality"], "phash": row["phash64"]}
    # All ten are modifications of one picture.
    assert groups(list(found.values())) == [tuple(range(10))]


def test_a_large_image_hashes_as_its_reduction():
    pytest.importorskip("pdqhash")
    waves = np.sin(np.linspace(0, 9, 2000)[:, None] * np.linspace(1, 5, 1600)[None]) * 100 + 128
    large = np.repeat(waves.astype(np.uint8)[:, :, None], 3, axis=2)
    reduced = large.reshape(1000, 2, 800, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    assert hashes(large)["pdq_quality"] >= 50
    assert apart(hashes(large)["pdq"], hashes(reduced)["pdq"]) <= 4


def test_without_the_libraries_there_are_no_hashes_and_it_says_why(monkeypatch):
    absent = types.SimpleNamespace(find_spec=lambda name: None)
    missing.cache_clear()
    monkeypatch.setattr(evalkit.known.importlib, "util", absent)
    try:
        assert hashes(np.zeros((8, 8, 3), np.uint8)) == {}
        assert "pip install 'evalkit[hashes]'" in missing()["pdq"] and "ImageHash" in missing()["phash"]
    finally:
        missing.cache_clear()


# ---------------------------------------------------------------------------------------------- lists


def test_the_three_forms_of_a_list_hold_the_same(tmp_path):
    sha, phash = "a" * 64, "0123456789abcdef"
    csv = f'hash,type,label\r\n{sha.upper()},sha256,Synthetic\r\n{PDQ},pdq,"campaign, 7"\r\n{phash},,\r\n'
    lines = "\n".join(
        json.dumps(row)
        for row in (
            {"indicator": sha, "type": "HASH_SHA256", "tags": ["x", "synthetic"], "status": "MALICIOUS"},
            {"indicator": PDQ, "type": "HASH_PDQ", "label": "campaign, 7"},
            {"hash": phash},
        )
    )
    plain = f"# ours\nsha256:{sha}  # known\n\npdq:{PDQ}\nphash:{phash}\n"
    wanted = [(sha, ("sha256",), "synthetic"), (PDQ, ("pdq",), "campaign, 7"), (phash, ("phash",), "")]
    for name, text in (("list.csv", csv), ("list.jsonl", lines)):
        assert [(e.value, e.kinds, e.label) for e in listed(tmp_path, text, name).entries] == wanted
    kept = listed(tmp_path, plain)
    assert [(e.value, e.kinds, e.line) for e in kept.entries] == [
        (sha, ("sha256",), 2),
        (PDQ, ("pdq",), 4),
        (phash, ("phash",), 5),
    ]
    assert kept.digest == f"sha256:{hashlib.sha256(plain.encode()).hexdigest()}"


def test_64_digits_of_no_type_are_looked_up_both_ways(tmp_path):
    kept = listed(tmp_path, PDQ + "\n")
    assert kept.entries[0].kinds == ("sha256", "pdq")
    assert [m.kind for m in kept.matches(PDQ, {})] == ["sha256"]
    assert [(m.kind, m.distance) for m in kept.matches("b" * 64, {"pdq": flipped(PDQ, [3])})] == [("pdq", 1)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{PDQ}\n{'a' * 32}\n", "line 2: md5 hashes are not supported; two files of one md5 can be made at will"),
        ("a" * 40, "line 1: sha1 hashes are not supported"),
        ("\n\nwhat\n", "line 3: 'what' is no hash"),
        ("a" * 20, "line 1: 20 digits; expected"),
        (f"phash:{'a' * 64}", "line 1: 64 digits of phash"),
        (f"hash,label\n{PDQ}\n", "line 2: 1 cells under 2 columns"),
        (f"hash,lable\n{PDQ},x\n", "line 1: columns hash, lable; expected hash, type, label"),
        (f"hash,type\n{PDQ},pdq\n{'b' * 32},md5\n", "line 3: md5 hashes"),
        ('{"hash": "aa"}', "line 1: 2 digits"),
        (f'{{"hash": "{PDQ}"}}\n[1]\n', "line 2: no hash"),
        (f'{{"hash": "{PDQ}"}}\n{{"hash": \n', "line 2: not JSON"),
        ('{"indicator": "http://x", "type": "URI"}', "is no hash"),
        ("# nothing\n\n", "holds no hash"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path, text, said):
    with pytest.raises(BadSource) as raised:
        listed(tmp_path, text)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_list_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "bytes").write_bytes(PDQ.encode() + b"\n\xff\xfe\n")
    with pytest.raises(BadSource, match="line 2: not UTF-8"):
        HashList.read(tmp_path / "bytes")
    with pytest.raises(BadSource, match="cannot read hash list"):
        HashList.read(tmp_path / "absent")


# ---------------------------------------------------------------------------------------------- matches


def test_matches_are_those_within_the_stated_distances(tmp_path):
    phash = "00ff00ff12345678"
    text = f"hash,type,label\n{PDQ},pdq,synthetic\n{phash},phash,authentic\n{'c' * 64},sha256,synthetic\n"
    kept = listed(tmp_path, text)
    at = {n: flipped(PDQ, range(n)) for n in (31, 32)}
    assert [(m.kind, m.distance) for m in kept.matches("0" * 64, {"pdq": at[31], "pdq_quality": 50})] == [("pdq", 31)]
    assert kept.matches("0" * 64, {"pdq": at[32], "pdq_quality": 50}) == ()
    # A flat image has a hash near that of any other.
    assert kept.matches("0" * 64, {"pdq": PDQ, "pdq_quality": 49, "phash": phash}) == ()
    assert not detailed({"pdq_quality": 49}) and detailed({"phash": phash})
    assert kept.matches("0" * 64, {"phash": flipped(phash, range(9))}) == ()
    near = kept.matches("C" * 64, {"pdq": at[31], "phash": flipped(phash, range(8))})
    assert [(m.kind, m.distance) for m in near] == [("sha256", 0), ("pdq", 31), ("phash", 8)]


def test_matches_agree_with_counting_bits_one_by_one():
    values = [flipped(PDQ, RNG.choice(256, int(RNG.integers(0, 60)), replace=False)) for _ in range(300)]
    entries = [evalkit.known.Entry(v, ("pdq",), "", line) for line, v in enumerate(values)]
    found = {m.entry.line: m.distance for m in HashList(entries).matches("", {"pdq": PDQ})}
    assert found == {i: apart(PDQ, v) for i, v in enumerate(values) if apart(PDQ, v) <= 31}
    assert 0 < len(found) < 300


def test_only_equal_bytes_are_strong_and_the_label_says_what(tmp_path):
    text = f"hash,type,label\n{PDQ},pdq,Authentic\n{'c' * 64},sha256,synthetic\n{flipped(PDQ, [1])},pdq,campaign 7\n"
    kept = listed(tmp_path, text)
    found = kept.match("c" * 64, {"pdq": PDQ})
    assert [(e.kind, e.says, e.strength, e.source) for e in found] == [
        ("known", "synthetic", "strong", "list.txt"),
        ("known", "authentic", "hint", "list.txt"),
        ("known", "unknown", "hint", "list.txt"),
    ]
    assert found[2].facts["distance"] == 1 and "line 4" in found[2].detail and "campaign 7" in found[2].detail
    assert kept.match("d" * 64, {}) == ()


# ---------------------------------------------------------------------------------------------- near-duplicates


def by_brute_force(values: list[str], limit: int) -> list[tuple[int, ...]]:
    clusters: dict[int, list[int]] = {}
    for i, value in enumerate(values):
        lead = next((j for j in clusters if apart(values[j], value) <= limit), i)
        clusters.setdefault(lead, []).append(i)
    return [tuple(c) for c in clusters.values() if len(c) > 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 4), st.sampled_from([0, 7, 16, 31, 47]))
def test_groups_are_those_of_brute_force(seed, n, bases, limit):
    """Variants around the distance that decides, chains and ties among them."""
    rng = np.random.default_rng(seed)
    values = [rng.bytes(32).hex() for _ in range(bases)]
    while len(values) < n:
        near = values[int(rng.integers(len(values)))]
        values.append(flipped(near, rng.choice(256, int(rng.integers(0, limit + 4)), replace=False)))
    wanted = by_brute_force(values, limit)
    assert groups([{"pdq": v, "pdq_quality": 100} for v in values], limit) == wanted


@pytest.mark.parametrize(("kind", "digits", "reach"), [("pdq", 64, 40), ("phash", 16, 12)])
def test_groups_of_many_blocks_are_those_of_brute_force(kind, digits, reach, monkeypatch):
    """Small blocks, so that rows are claimed across blocks, through the bands and without them."""
    monkeypatch.setattr(evalkit.known, "BLOCK", 8)
    monkeypatch.setattr(evalkit.known, "AT_ONCE", 3)
    rng = np.random.default_rng(1)
    values = [rng.bytes(digits // 2).hex() for _ in range(150)]
    for _ in range(350):
        near = values[int(rng.integers(len(values)))]
        values.append(flipped(near, rng.choice(4 * digits, int(rng.integers(0, reach)), replace=False)))
    rng.shuffle(values)
    wanted = by_brute_force(values, evalkit.known.WITHIN[kind])
    assert groups([{kind: v} for v in values]) == wanted and len(wanted) > 50


def test_the_bands_alone_find_every_near_pair():
    rng = np.random.default_rng(2)
    values = [rng.bytes(32).hex() for _ in range(40)]
    # 31 bits spread as evenly as they can be over the 16 bands: the worst case of the pigeonhole.
    values += [flipped(v, [16 * (i % 16) + i // 16 for i in range(31)]) for v in values]
    words = evalkit.known._words(values, "pdq")
    bands = evalkit.known._Bands(words)
    found = set()
    for row, other in bands.candidates(np.arange(80), evalkit.known._flips(1)):
        row, other = _pairs_near(words, row, other, 31)
        found |= set(zip(row.tolist(), other.tolist(), strict=True))
    assert found == {(i, j) for i in range(80) for j in range(80) if apart(values[i], values[j]) <= 31}
    assert (0, 40) in found


def test_images_without_detail_or_hash_are_in_no_cluster():
    flat = {"pdq": PDQ, "pdq_quality": 0, "phash": "0" * 16}
    full = {"pdq": PDQ, "pdq_quality": 90, "phash": "f" * 16}
    assert groups([flat, flat, full, {}, full]) == [(2, 4)]
    assert groups([]) == groups([full]) == groups([{}, {}]) == []
    assert groups([{"phash": "0f" * 8}, {"phash": "0e" * 8}]) == [(0, 1)]
    with pytest.raises(BadSetting, match="expected 0 to 63"):
        groups([full, full], 64)
