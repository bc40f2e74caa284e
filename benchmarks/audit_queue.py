"""Does the queue of an audit bear a million files, and kills at any point?

A million items of no cost go through the real manifest table, queue and store: rate, memory, size, and how long it
takes until work goes on after a kill -9. Then a real local run over a few hundred files is killed a hundred times at
random points; what it found in the end is compared with an uninterrupted run's.

    python -m benchmarks.audit_queue [--items 1000000] [--files 400] [--kills 100] [--only million|kills|ray]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalkit.auditing.engines import Spec, run
from evalkit.auditing.entries import Entry
from evalkit.auditing.manifest import Reader, listed
from evalkit.auditing.store import DATABASE, Store, working_on

CONFIGURATION = {"benchmark": "audit_queue"}
# About the size of a file's record with two detectors and a C2PA manifest.
DOCUMENT = {
    "opened": {"state": "ok", "format": "JPEG"},
    "opinions": [{"name": f"d{i}", "p_fake": 0.5} for i in range(2)],
}


class Free:
    """Examines nothing: a document of the usual shape for each entry."""

    def examine(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        return [{**DOCUMENT, "sha256": e.sha256} for e in entries]

    def crashed(self, entry: Entry) -> dict[str, Any]:
        return {"sha256": entry.sha256, "state": "crash"}


class Summing(Free):
    """Reads each file and hashes it in another way, a few milliseconds each."""

    def __init__(self, reader: Reader, seconds: float) -> None:
        self.reader, self.seconds = reader, seconds

    def examine(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        found = []
        for entry in entries:
            data = self.reader.read(entry)
            time.sleep(self.seconds)
            found.append({"blake2b": hashlib.blake2b(data).hexdigest(), "share": sum(data) / (1 + len(data))})
        return found


@contextmanager
def free(arguments: Mapping[str, Any], device: str) -> Iterator[Free]:
    yield Free()


@contextmanager
def summing(arguments: Mapping[str, Any], device: str) -> Iterator[Free]:
    with Reader() as reader:
        yield Summing(reader, float(arguments["seconds"]))


class Watch:
    """Progress that notes peak memory and prints how far it is, for the process that kills it."""

    def __init__(self) -> None:
        self.done, self.began, self.memory = 0, -1, [(0, 0.0)]

    def start(self, task: str, total: int) -> None:
        self.total = total

    def advance(self, n: int = 1) -> None:
        self.done += n
        self.began = n if self.began < 0 else self.began
        if self.done >= self.memory[-1][0] + self.total // 4:
            self.memory.append((self.done, peak()))
        if n:
            print(f"done {self.done}", flush=True)

    def finish(self) -> None:
        return


def peak() -> float:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def items(n: int) -> Iterator[Entry]:
    """n inputs of their own content, as a listing would give them."""
    for i in range(n):
        name = b"%03d/%09d.jpg" % (i // 5000, i)
        digest = hashlib.sha256(name).hexdigest()
        yield Entry(i, f"upload/{name.decode()}", name, b"/data/upload", size=200_000, sha256=digest)


# ---------------------------------------------------------------------------------------------- a million


def step(out: Path, what: str, n: int) -> None:
    """One process of the million: the listing, or a run that goes on as far as it is let; prints what it measured."""
    start = time.perf_counter()
    with working_on(out), Store(out, CONFIGURATION) as store:
        if what == "freeze":
            store.freeze(items(n))
            told: dict[str, Any] = {"seconds": time.perf_counter() - start, "peak": peak()}
        elif what == "run":
            watch = Watch()
            run(store, Spec("benchmarks.audit_queue:free", {}), progress=watch)
            told = {
                "seconds": time.perf_counter() - start,
                "peak": peak(),
                "memory": watch.memory[1:],
                "began": watch.began,
            }
        else:
            positions = sum(1 for _, document in store.findings() if document is not None)
            told = {"seconds": time.perf_counter() - start, "peak": peak(), "found": positions}
    print("told " + json.dumps(told), flush=True)


def started(*arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.audit_queue", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def measured(*arguments: Any) -> dict[str, Any]:
    output, _ = started(*arguments).communicate()
    [line] = [line for line in output.splitlines() if line.startswith("told ")]
    return dict(json.loads(line.removeprefix("told ")))


def million(n: int, root: Path) -> None:
    out = root / "million"
    frozen = measured("--step", "freeze", "--out", out, "--items", n)
    luck, resumes = random.Random(1), []
    for _ in range(3):
        # Killed after 5 to 15 % more; measured is the time until a run has acknowledged its first batch.
        process = started("--step", "run", "--out", out)
        start, aim, waited = time.perf_counter(), luck.uniform(0.05, 0.15) * n, None
        first = None
        for line in process.stdout or ():
            done = int(line.split()[1])
            first = done if first is None else first
            if waited is None and done > first:
                waited = time.perf_counter() - start
            if done - first >= aim:
                break
        process.kill()
        process.wait()
        resumes.append(waited)
    ran = measured("--step", "run", "--out", out)
    read = measured("--step", "read", "--out", out)
    size = (out / DATABASE).stat().st_size / 2**20
    print("| step | items | seconds | items/s | peak MiB |\n|---|---|---|---|---|")
    print(f"| manifest written and frozen | {n:,} | {row(n, frozen)} |")
    with Store(out) as store:
        counts = store.counts()
    left = n - int(ran["began"])
    print(f"| leased, acknowledged (the last stretch, after three kills) | {left:,} | {row(left, ran)} |")
    print(f"| findings read in manifest order | {n:,} | {row(n, read)} |")
    print(f"\ncounts {counts}; documents found {read['found']:,}; database {size:.0f} MiB")
    print("peak memory while it ran: " + ", ".join(f"{done:,} done: {at:.0f} MiB" for done, at in ran["memory"]))
    print("start to first acknowledged batch (new, after a kill, after a kill): " + said(resumes))


def row(n: int, told: Mapping[str, Any]) -> str:
    return f"{told['seconds']:.1f} | {n / told['seconds']:,.0f} | {told['peak']:.0f}"


def said(seconds: Sequence[float | None]) -> str:
    return ", ".join("-" if s is None else f"{s:.1f} s" for s in seconds)


# ---------------------------------------------------------------------------------------------- kills


def audited(out: Path, devices: Sequence[str], engine: str = "local") -> None:
    """A real audit of a folder, from the listing on, as a command would go on with it."""
    with working_on(out), Store(out, CONFIGURATION) as store:
        if not store.frozen:
            store.freeze(listed([str(out.parent / "in")], own=out), batch=8)
        spec = Spec("benchmarks.audit_queue:summing", {"seconds": 0.004})
        run(store, spec, devices=devices, engine=engine)


def written(out: Path) -> str:
    """Everything that was found, as text."""
    with Store(out) as store:
        return "\n".join(json.dumps([e.position, e.id, e.sha256, d], sort_keys=True) for e, d in store.findings())


def kills(files: int, wanted: int, root: Path, devices: Sequence[str]) -> None:
    source, luck = root / "in", random.Random(2)
    if not source.exists():
        source.mkdir()
        for i in range(files):
            (source / f"{i:05}.bin").write_bytes(random.Random(i % (files * 9 // 10)).randbytes(2000))
    whole, out, killed, runs = root / "whole", root / f"killed-{len(devices)}", 0, 0
    if not whole.exists():
        audited(whole, ["cpu"])
    expected, same, extra, batches = written(whole), 0, 0, 0
    while killed < wanted:
        process = started("--step", "audit", "--out", out, "--devices", ",".join(devices))
        try:
            process.wait(luck.uniform(0.3, 3))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
            continue
        # Finished: compared, and begun again from nothing.
        runs, (lost, again, held) = runs + 1, finished(out, expected)
        same, extra, batches = same + lost, extra + again, batches + held
        out = root / f"killed-{len(devices)}-{runs}"
    process = started("--step", "audit", "--out", out, "--devices", ",".join(devices))
    process.wait()
    runs, (lost, again, held) = runs + 1, finished(out, expected)
    same, extra, batches = same + lost, extra + again, batches + held
    cells = (len(devices), killed, runs, f"{same} of {runs}", batches, extra, f"{extra / max(1, killed):.2f}")
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def finished(out: Path, expected: str) -> tuple[int, int, int]:
    """Whether an audit's findings are the expected ones; how many leases it took more than batches; its batches."""
    with Store(out) as store:
        query = "SELECT sum(attempts) - count(*), count(*) FROM batches WHERE state = 'done'"
        again, held = store.db.execute(query).fetchone()
        assert store.counts()["left"] == 0
    return int(written(out) == expected), int(again), int(held)


def ray_too(files: int, root: Path) -> None:
    if not (root / "whole").exists():
        kills(files, 0, root, ["cpu"])
    start = time.perf_counter()
    audited(root / "ray", ["cpu", "cpu"], engine="ray")
    equal = written(root / "ray") == written(root / "whole")
    print(f"\nRay, two actors: findings equal to the local run's: {equal}; {time.perf_counter() - start:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--only", choices=("million", "kills", "ray"))
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--devices", default="cpu", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step == "audit":
        audited(given.out, given.devices.split(","))
        return
    if given.step:
        step(given.out, given.step, given.items)
        return
    with tempfile.TemporaryDirectory(prefix="audit-queue-") as folder:
        root = Path(folder)
        if given.only in (None, "million"):
            million(given.items, root)
        if given.only in (None, "kills"):
            print("\n| processes | kills | audits finished | findings equal | batches | done again | a kill |")
            print("|---|---|---|---|---|---|---|", flush=True)
            for devices in (["cpu"], ["cpu", "cpu"]):
                kills(given.files, given.kills // 2, root, devices)
        if given.only in (None, "ray"):
            ray_too(given.files, root)


if __name__ == "__main__":
    main()
