"""A small audit with a bit of everything in it, made once for the tests that look at it."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.audit_kills import AS_OF, image, images
from evalkit.cli import run

HOSTILE = (
    b"<img src=x onerror=alert(1)>.png",
    b"=cmd|' '!A1.png",
    b"two\nlines.png",
    b"caf\xe9.png",
    b"\xe2\x80\xaegnp.png",
)
VERDICTS = ("synthetic", "authentic", "uncertain", "unreadable")
WORDS = ("the", "old", "house", "stood", "by", "a", "river", "where", "boats", "went", "down", "in", "summer", "slow")


@contextmanager
def at(home: Path) -> Iterator[None]:
    """A folder to work in and a cache of its own, for fixtures that outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [k for k in os.environ if k.startswith("EVALKIT_") and k != "EVALKIT_TEST_DATA"]:
            patch.delenv(name)
        for name, value in (("EVALKIT_CACHE", home / "cache"), ("HOME", home / "elsewhere"), ("EVALKIT_OFFLINE", "1")):
            patch.setenv(name, str(value))
        patch.chdir(home)
        patch.setattr("evalkit.auditing.heat.MOST", 1)  # One map shows what four do.
        yield


def text(seed: int, is_fake: bool) -> str:
    """Words in a random order; a fake's are doubled."""
    rng = np.random.default_rng(seed)
    words = [str(w) for w in rng.choice(WORDS, 160)]
    return " ".join(w + w if is_fake else w for w in words)


def fitted(home: Path) -> list[str]:
    """Two detectors of images and one of texts, fitted, with reals and fakes to calibrate on, as options."""
    for name, seed, noise in (("real", 1, 4.0), ("fake", 2, 20.0), ("reals", 3, 4.0), ("fakes", 4, 20.0)):
        images(home / name, 40, seed, lambda i, noise=noise: noise)
        lines = [text(seed * 1000 + i, noise > 5) for i in range(40)]
        (home / f"{name}.txt").write_text("\n".join(lines))
    given = []
    for name, suffix in (("spectrum", ""), ("residual", ""), ("ngram_lr", ".txt")):
        sides = ["--real", f"real{suffix}", "--fake", f"fake{suffix}"]
        assert run(["train", "detector", name, *sides, "--out", f"models/{name}", "-q"]) == 0
        given += ["--with", f"models/{name}"]
    for suffix in ("", ".txt"):
        given += ["--calibrate", f"reals{suffix}", "--fake", f"fakes{suffix}"]
    return [*given, "--fpr", "0.05", "--confidence", "0", "--fdr", "0.2"]


def upload(home: Path) -> list[str]:
    """The PATHs: a folder of all kinds of files, an archive, a table."""
    folder = home / "upload"
    images(folder / "low", 16, 5, lambda i: 4.0)
    images(folder / "high", 12, 6, lambda i: 20.0)
    for i in range(6):
        (folder / f"text-{i}.txt").write_text(text(9000 + i, i % 2 == 0))
    for i, name in enumerate(HOSTILE):
        (folder / os.fsdecode(name)).write_bytes(image(7000 + i, 4.0))
    (folder / "claims.png").write_bytes(image(7100, 4.0, prompt="a castle"))
    (folder / "short.png").write_bytes(image(7101, 4.0)[:500])
    (folder / "empty.png").touch()
    (folder / "tiny.png").write_bytes(image(7102, 4.0, side=2))
    (folder / "program.exe").write_bytes(b"MZ" + bytes(200))
    (folder / "copy.png").write_bytes((folder / "low" / "00000.png").read_bytes())
    (folder / "in-calibration.png").write_bytes((home / "reals" / "00000.png").read_bytes())
    (folder / "linked.png").symlink_to(folder / "copy.png")
    (folder / "going.png").write_bytes(image(7103, 4.0))
    with zipfile.ZipFile(home / "more.zip", "w") as archive:
        archive.writestr("a/1.png", image(7104, 20.0))
        archive.writestr("a/2.txt", text(9100, False))
    (home / "tabled").mkdir()
    (home / "tabled" / "one.png").write_bytes(image(7105, 20.0))
    (home / "tabled" / "list.csv").write_text("path,id\none.png,first\ngone.png,second\n../models/secret,third\n")
    return ["upload", "more.zip", "tabled/list.csv"]


def known(home: Path, sha: Any) -> list[str]:
    """A list of known content."""
    rows = [(home / "upload" / "low" / "00001.png", "synthetic"), (home / "upload" / "high" / "00001.png", "authentic")]
    lines = ["hash,type,label", *(f"{sha(path)},sha256,{label}" for path, label in rows)]
    (home / "known.csv").write_text("\n".join(lines))
    return ["--known", "known.csv"]


@dataclass(frozen=True)
class Made:
    """The audit that was made: where, by which command, and its records by display name."""

    home: Path
    command: list[str]
    code: int
    records: dict[str, dict[str, Any]]
    seal: dict[str, Any]

    @property
    def out(self) -> Path:
        return self.home / "out"

    def images(self) -> list[dict[str, Any]]:
        return [r for r in self.records.values() if r["modality"] == "image"]


def records_of(out: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (out / "audit.jsonl").read_text().splitlines()]
    found = {record["id"]: record for record in lines}
    assert len(found) == len(lines)
    return found


def snapshot(out: Path) -> dict[str, bytes]:
    """Every file of an audit but its database and its lock."""
    paths = (p for p in sorted(out.rglob("*")) if p.is_file() and not p.name.startswith(("audit.db", "audit.lock")))
    return {str(p.relative_to(out)): p.read_bytes() for p in paths}


def check_shape(record: dict[str, Any]) -> None:
    """The shape that is promised to pipelines: names, types, ranges; more may stand beside it."""
    share = (float, int)
    assert isinstance(record["id"], str) and isinstance(record["sha256"], str)
    assert record["modality"] in ("image", "text", None) and record["verdict"] in VERDICTS
    for name in ("p_fake", "p_value"):
        assert record[name] is None or (isinstance(record[name], share) and 0 <= record[name] <= 1)
    assert record["threshold"] is None or (
        len(record["threshold"]) == 2 and record["threshold"][0] <= record["threshold"][1]
    )
    for one in record["detectors"]:
        assert {"name", "digest", "score", "p_fake", "trained_on"} <= set(one)
        assert one["digest"].startswith("sha256:") and isinstance(one["score"], share) and 0 <= one["p_fake"] <= 1
    for one in record["evidence"]:
        kinds = ("metadata", "c2pa", "watermark", "fingerprint", "likelihood", "inconsistency")
        assert one["kind"] in kinds and isinstance(one["says"], str) and isinstance(one["detail"], str)
    assert isinstance(record["spans"], list)
    assert isinstance(record["reason"], str) if record["verdict"] == "unreadable" else "reason" in record


def small(folder: Path, n: int = 3, seed: int = 40) -> Path:
    """A folder of n images, for audits without a detector."""
    return images(folder, n, seed, lambda i: 20.0 if i % 2 else 4.0)


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


FROZEN = ["--as-of", AS_OF, "-q"]
