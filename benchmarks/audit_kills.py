"""Does an audit end in the same records when it is killed, and when files crash, hang or eat memory?

A whole audit of small images (isolated decoding, provenance, watermarks, hashes, a calibrated detector, seal and pages)
is killed with SIGKILL at random points, the main process alone and the whole process group in turns, and started again
until it is done; then the next one. Processes are forked from one that has imported the libraries, so that the kills
fall into work and not into imports; orphans come back to this process, which therefore sees every one that outlives
its command. Then one file in a hundred orders its isolated worker to crash, abort, hang, leave or take memory, and the
records of the others are compared with those of an audit without these files.

    python -m benchmarks.audit_kills [--files 300] [--kills 100] [--faulty 2000] [--only kills|faults] [--device D,D]
"""

from __future__ import annotations

import argparse
import ctypes
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from evalkit.auditing.requesting import Request, planned
from evalkit.auditing.running import audit
from evalkit.auditing.store import Store
from evalkit.auditing.verifying import verify
from evalkit.cli import run
from evalkit.isolation import Limits
from evalkit.measurement import Bench
from tests.toys_witness import marked

AS_OF = "2026-01-02T03:04:05+00:00"  # Certificates are held against the clock: a time of its own, so that runs compare.
FAULT = ("tests.toys_witness:Fault", {})
ENDS = {"segfault": "crash", "abort": "crash", "leave": "crash", "hang": "timeout", "memory": "oom"}
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
GRACE = 10.0  # seconds for what a killed command leaves to be gone


# ---------------------------------------------------------------------------------------------- media


def image(seed: int, noise: float, side: int = 40, prompt: str = "") -> bytes:
    """A PNG of smooth waves under noise, which is what tells real (little) from fake (much) here."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    wave = 128 + 60 * np.sin(x / rng.uniform(5, 9) + rng.uniform(0, 6)) + 40 * np.cos(y / 7 + rng.uniform(0, 6))
    pixels = (wave[..., None] + rng.normal(0, noise, (side, side, 3))).clip(0, 255).astype(np.uint8)
    told = PngImagePlugin.PngInfo()
    if prompt:
        told.add_text("parameters", f"{prompt}\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: {seed}, Size: 64x64")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=told)
    return buffer.getvalue()


def images(folder: Path, n: int, seed: int, noise: Callable[[int], float]) -> Path:
    folder.mkdir(parents=True)
    for i in range(n):
        (folder / f"{i:05}.png").write_bytes(image(seed * 1_000_000 + i, noise(i)))
    return folder


def mixed(folder: Path, n: int) -> Path:
    """n files: two in three little noise, one much; copies, texts, claims of generation and broken ones among them."""
    images(folder, n, 5, lambda i: 20.0 if i % 3 == 0 else 4.0)
    for i in range(0, n, 25):
        (folder / f"{i:05}.png").write_bytes(image(i, 20.0, prompt="a castle"))
        (folder / f"{i:05}-copy.png").write_bytes((folder / f"{i + 1:05}.png").read_bytes())
        (folder / f"{i:05}.txt").write_text(f"the text of file {i}, of which there is one")
        (folder / f"{i:05}-short.png").write_bytes((folder / f"{i + 2:05}.png").read_bytes()[:900])
    return folder


def detector(root: Path, command: Callable[[Sequence[str]], int] = run) -> list[str]:
    """A detector fitted and calibrated on images like those to come, as options of the command."""
    for name, seed, noise in (("real", 1, 4.0), ("fake", 2, 20.0), ("calibrate", 3, 4.0), ("fakes", 4, 20.0)):
        images(root / name, 80, seed, lambda i, noise=noise: noise)  # type: ignore[misc]
    given = ["train", "detector", "spectrum", "--real", root / "real", "--fake", root / "fake", "--out", root / "model"]
    assert command([*map(str, given), "-q"]) == 0
    told = ["--with", root / "model", "--calibrate", root / "calibrate", "--fake", root / "fakes"]
    return [*map(str, told), "--fpr", "0.05", "--confidence", "0", "--fdr", "0.1"]


# ---------------------------------------------------------------------------------------------- kills


@dataclass
class Told:
    """What a series of kills came to."""

    kills: int = 0
    alone: int = 0
    audits: int = 0
    equal: int = 0
    again: int = 0
    most_again: int = 0
    split: int = 0
    orphans: int = 0
    slowest: float = 0.0
    steps: Counter[str] = field(default_factory=Counter)


def kills(source: Path, options: Sequence[str], root: Path, wanted: int, seed: int = 0, devices: str = "") -> Told:
    """Audits of `source`, killed `wanted` times in all, against one that is not; devices: as the command takes them."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    share = ["--devices", devices] if devices else []

    def command(out: Path) -> list[str]:
        return [
            "audit",
            str(source),
            "--out",
            str(out),
            *options,
            "--as-of",
            AS_OF,
            "-q",
            "--most-unreadable",
            "1",
            *share,
        ]

    begun = time.perf_counter()
    assert _ended(_started(command(root / "whole"))) == 0
    length = time.perf_counter() - begun
    expected, luck, told = (root / "whole" / "audit.jsonl").read_bytes(), random.Random(seed), Told()
    _orphans()
    while told.kills < wanted:
        out = root / f"killed-{told.audits}"
        # Lives of all orders of length, a few in one audit: so that kills fall into every step.
        lives = [length * 10 ** luck.uniform(-1.7, -0.2) for _ in range(min(luck.randint(2, 8), wanted - told.kills))]
        for seconds in lives:
            child = _started(command(out))
            if _ended(child, seconds) is not None:
                break
            told.steps[_step(out)] += 1
            is_alone = told.kills % 2 == 0
            (os.kill if is_alone else os.killpg)(child, signal.SIGKILL)
            os.waitpid(child, 0)
            told.kills, told.alone = told.kills + 1, told.alone + is_alone
            left, gone = _orphans()
            told.orphans, told.slowest = told.orphans + left, max(told.slowest, gone)
        else:
            assert _ended(_started(command(out))) == 0
        _orphans()
        _count(told, out, expected)
    return told


def _count(told: Told, out: Path, expected: bytes) -> None:
    told.audits += 1
    sound = verify(out).ok and not list(out.glob(".*")) and not list((out / "files").glob(".*"))
    told.equal += sound and (out / "audit.jsonl").read_bytes() == expected
    with Store(out) as store:
        rows = store.db.execute("SELECT state, units, attempts FROM batches").fetchall()
    told.split += sum(state == "split" for state, _, _ in rows)
    # A content of a split batch was counted as examined once when it was set on its own.
    whole = {state for state, _, _ in rows} == {"done"}
    again = sum((attempts - 1) * units for _, units, attempts in rows) if whole else 64 * 3
    told.again, told.most_again = told.again + again, max(told.most_again, again)


def _step(out: Path) -> str:
    """How far a killed audit had come, by what lies in its folder."""
    if (out / "audit.json").exists():
        return "sealed, drawing pages"
    if (out / "audit.jsonl").exists():
        return "sealing"
    if not (out / "audit.db").exists():
        return "loading, calibrating"
    with Store(out) as store:
        if not store.frozen:
            return "listing"
        return "examining, concluding" if store.counts()["done"] else "examining the first batch"


def _started(arguments: Sequence[str]) -> int:
    """The command in a process and a session of its own, its output thrown away."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 3
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        code = run(list(arguments))
    finally:
        os._exit(code)


def _ended(child: int, seconds: float = 600.0) -> int | None:
    """The exit code of a command; None when it still runs after so many seconds."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def _orphans() -> tuple[int, float]:
    """How many processes outlive their command by more than GRACE, and how long the last of them took to end."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < GRACE:
        try:
            found, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 0, time.perf_counter() - begun
        if not found:
            time.sleep(0.005)
    return 1, GRACE


# ---------------------------------------------------------------------------------------------- faults


def faults(model: Path, root: Path, n: int, share: float = 0.01, seconds: float = 2.0) -> dict[str, Any]:
    """Two audits, with the files that order a fault and without them: how these ended, whether the rest is equal."""
    luck, with_, without = random.Random(7), root / "with", root / "without"
    orders = {
        i: tuple(ENDS)[k % len(ENDS)] for k, i in enumerate(sorted(luck.sample(range(n), max(1, int(n * share)))))
    }
    for folder in (with_, without):
        folder.mkdir(parents=True)
    for i in range(n):
        data = image(i, 20.0 if i % 3 == 0 else 4.0)
        if i in orders:
            data = marked(data, orders[i])
        else:
            (without / f"{i:05}.png").write_bytes(data)
        (with_ / f"{i:05}.png").write_bytes(data)
    took = {}
    for folder in (with_, without):
        begun = time.perf_counter()
        _audited(folder, model, root / f"audit-{folder.name}", seconds)
        took[folder.name] = time.perf_counter() - begun
    found, calm = (_records(root / f"audit-{folder.name}") for folder in (with_, without))
    named = {i: found.pop(f"{i:05}.png") for i in orders}
    return {
        "files": n,
        "orders": Counter(orders.values()),
        "ends": Counter((orders[i], r["state"], r["reason"]) for i, r in named.items()),
        "named": sum(r["state"] == ENDS[orders[i]] and r["verdict"] == "unreadable" for i, r in named.items()),
        "others": len(calm),
        "equal": found == calm,
        "different": {name: (found.get(name), calm[name]) for name in calm if found.get(name) != calm[name]},
        "sound": verify(root / "audit-with").ok,
        "seconds": took,
    }


def _audited(source: Path, model: Path, out: Path, seconds: float) -> None:
    """An audit with a witness that obeys its files, which no command could ask for: its plan is written first."""
    bench = Bench()
    plan = planned(Request(paths=(str(source),), detectors=(str(model),), as_of=AS_OF), out, bench, [])
    limits = replace(Limits(**plan.limits), wall_seconds=seconds).as_json()
    Store(out, replace(plan, witnesses=(*plan.witnesses, FAULT), limits=limits).plain()).db.close()
    audit(Request(), out, bench=bench, resume=True)


def _records(out: Path) -> dict[str, str]:
    """Each record by its file's name, but for its place in the manifest and in the chain."""
    found = {}
    for line in (out / "audit.jsonl").read_text("utf-8").splitlines():
        record: dict[str, Any] = json.loads(line)
        name = record.pop("id").partition("/")[2]
        found[name] = {k: v for k, v in record.items() if k not in ("position", "previous", "hash")}
    return found


# ---------------------------------------------------------------------------------------------- tables


def table(rows: Mapping[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def killed_words(told: Told, files: int) -> dict[str, Any]:
    return {
        "inputs of an audit": files,
        "kills (of the main process alone; of its process group)": f"{told.kills} ({told.alone}; "
        f"{told.kills - told.alone})",
        "audits that were finished": told.audits,
        "`audit.jsonl` equal to the uninterrupted one's to the byte, chain sound, no draft left": told.equal,
        "where the kills fell": ", ".join(f"{name} {n}" for name, n in told.steps.most_common()),
        "contents examined more than once, at most (in one audit)": f"{told.again:,} ({told.most_again})",
        "batches split after three kills in them": told.split,
        "processes that outlived a kill by 10 s": told.orphans,
        "longest time until the last process was gone": f"{told.slowest:.2f} s",
    }


def fault_words(told: Mapping[str, Any]) -> dict[str, Any]:
    seconds = told["seconds"]
    ends = ("{} x {}: {} ({})".format(n, *end) for end, n in sorted(told["ends"].items()))
    return {
        "files": f"{told['files']:,}",
        "of them with a fault": sum(told["orders"].values()),
        "named with the state expected": told["named"],
        "how they ended": "; ".join(ends),
        "records of the others equal in every field": f"{told['equal']} ({told['others']:,})",
        "chain sound": told["sound"],
        "seconds with them, without": f"{seconds['with']:.0f}, {seconds['without']:.0f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--faulty", type=int, default=2000)
    parser.add_argument("--devices", default="")
    parser.add_argument("--only", choices=("kills", "faults"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="audit-kills-") as folder:
        root = Path(folder)
        options = detector(root / "detector")
        if given.only != "faults":
            source = mixed(root / "in", given.files)
            told = kills(source, options, root, given.kills, devices=given.devices)
            print(table(killed_words(told, len(list(source.iterdir())))), flush=True)
        if given.only != "kills":
            print(
                "\n" + table(fault_words(faults(root / "detector" / "model", root / "faults", given.faulty))),
                flush=True,
            )


if __name__ == "__main__":
    main()
