"""What isolated decoding costs, and what the malformed corpus, bombs, mutants and injected faults do to it.

    python -m benchmarks.isolation [--part price|corpus|bombs|mutants|faults ...] [--malformed FOLDER] [--n 10000]

price: files a second of the same 256-pixel JPEGs (quality 90), decoded and their headers read in process by 1 and 2
threads and by 1 and 2 isolated workers, in turns of 80 files, the best of twenty of each, because other work on the
machine only ever slows; and processor time a file of parent and workers together. corpus, bombs: a folder of malformed
files (with a folder `bombs`). mutants: n seeded mutants of small files. faults: n files of which 1 % crash, abort,
hang, take memory or leave their worker. Prints Markdown; exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evalkit.errors import UnreadableSample
from evalkit.isolation import Limits, Pool
from evalkit.samples._headers import read_facts
from evalkit.samples._media import decode_image
from tests.test_isolation_corpus import mutants
from tests.toys_witness import marked

MiB = 2**20
ROUNDS = 20
TOGETHER = (1, 8, 16)
FAULTS = ("segfault", "abort", "hang", "memory", "leave")
TOY, FAULT = ("tests.toys_witness:Toy", {}), ("tests.toys_witness:Fault", {})
GOAL = 0.9


def photographs(n: int, side: int = 256) -> list[bytes]:
    """JPEGs of smooth waves with noise, about 27 kB each as photographs of that size are."""
    rng, files = np.random.default_rng(0), []
    y, x = np.mgrid[:side, :side]
    for i in range(n):
        waves = [128 + 80 * np.sin(x / (9 + i % 9) + k) * np.cos(y / (7 + k)) for k in range(3)]
        pixels = (np.stack(waves, 2) + rng.normal(0, 12, (side, side, 3))).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def processor_of(pool: Pool | None) -> Callable[[], float]:
    """Seconds of processor time of this process and of the pool's workers so far."""

    def told() -> float:
        children = [hand._child for hand in pool._hands] if pool else []
        ticks = [Path(f"/proc/{child}/schedstat").read_text().split()[0] for child in children]
        return time.process_time() + sum(int(tick) for tick in ticks) / 1e9

    return told


def in_process(data: bytes) -> None:
    read_facts(data)
    decode_image(data)


def together(pool: Pool, count: int) -> Callable[[Sequence[bytes]], None]:
    """Open files by requests of so many."""

    def act(files: Sequence[bytes]) -> None:
        for _ in pool.open_many(given(files), together=count):
            pass

    return act


def each(open_one: Callable[[bytes], Any], threads: int) -> Callable[[Sequence[bytes]], None]:
    """Open files one by one in so many threads."""

    def act(files: Sequence[bytes]) -> None:
        turn = count()

        def work() -> None:
            while (i := next(turn)) < len(files):
                open_one(files[i])

        crew = [threading.Thread(target=work) for _ in range(threads)]
        for one in crew:
            one.start()
        for one in crew:
            one.join()

    return act


def price(files: list[bytes]) -> bool:
    """The table of rates; whether isolation keeps nine tenths of what in-process decoding does in the same CPU time."""
    limits, good = Limits(recycle_after=10**6), True
    print("| cores | route | files/s | of in process | CPU, us a file | of in process |\n|---|---|---|---|---|---|")
    for cores in (1, 2):
        with (
            Pool(cores, limits, hashes=False) as bare,
            Pool(cores, limits, hashes=True) as hashed,
            Pool(cores, limits, [TOY], hashes=False) as asked,
        ):
            routes: dict[str, tuple[Callable[[Sequence[bytes]], None], Pool | None]] = {
                "in process, pixels and header facts": (each(in_process, cores), None),
                "in process, pixels alone": (each(decode_image, cores), None),
                "isolated, `open`": (each(bare.open, cores), bare),
                "isolated, `open`, a witness": (each(asked.open, cores), asked),
                "isolated, `open`, perceptual hashes": (each(hashed.open, cores), hashed),
                **{f"isolated, `open_many`, {n} a request": (together(bare, n), bare) for n in TOGETHER},
            }
            best = {name: (float("inf"), float("inf")) for name in routes}
            for _ in range(ROUNDS + 1):
                for name, (act, pool) in routes.items():
                    cpu = processor_of(pool)
                    start, spent = time.perf_counter(), cpu()
                    act(files)
                    taken = (time.perf_counter() - start, cpu() - spent)
                    best[name] = (min(best[name][0], taken[0]), min(best[name][1], taken[1]))
        wall, spent = best["in process, pixels and header facts"]
        for name, (seconds, used) in best.items():
            print(
                f"| {cores} | {name} | {len(files) / seconds:,.0f} | {wall / seconds:.2f} | "
                f"{used / len(files) * 1e6:,.0f} | {spent / used:.2f} |"
            )
        good &= spent / min(used for name, (_, used) in best.items() if "open_many" in name) >= GOAL
    return good


def corpus(root: Path) -> bool:
    """States of the malformed files; whether none crashed or hung and no worker took 256 MiB."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.parent.name != "bombs"]
    slowest, states, stages = 0.0, Counter[str](), Counter[tuple[str, str]]()
    with Pool(1, hashes=False) as pool:
        peak = 0
        for path in files:
            start = time.perf_counter()
            opened, _ = pool.open(path.read_bytes())
            slowest = max(slowest, time.perf_counter() - start)
            states[opened.state] += 1
            stages[opened.state, opened.stage] += 1
            peak = max(peak, opened.peak_bytes)
    print(f"{len(files)} files, peak of the worker {peak / MiB:.0f} MiB, slowest {slowest * 1e3:.0f} ms\n")
    print("| state | stage | files |\n|---|---|---|")
    for (state, stage), n in sorted(stages.items()):
        print(f"| {state} | {stage or '-'} | {n} |")
    return not {"crash", "timeout", "oom", "io_error"} & set(states) and peak < 256 * MiB


def bombs(root: Path) -> bool:
    """Each bomb in a fresh worker; whether all were refused within 100 ms and 100 MiB."""
    good = True
    print("| file | bytes | state | stage | ms | MiB above idle |\n|---|---|---|---|---|---|")
    with Pool(1, Limits(recycle_after=1), hashes=False) as pool:
        idle = pool.open(b"word")[0].peak_bytes
        for path in sorted((root / "bombs").iterdir()):
            data = path.read_bytes()
            tries = [pool.open(data)[0] for _ in range(3)]
            taken, above = min(o.seconds for o in tries), max(o.peak_bytes for o in tries) - idle
            o = tries[0]
            print(f"| {path.name} | {len(data):,} | {o.state} | {o.stage} | {taken * 1e3:.1f} | {above / MiB:.1f} |")
            good &= o.state in ("too_large", "unsupported") and taken < 0.1 and above < 100 * MiB
    return good


def mutant_seeds() -> list[bytes]:
    small, seeds = photographs(2, 48), []
    pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in small]
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"):
        for more in ({}, {"save_all": True, "append_images": pictures[1:]}):
            buffer = io.BytesIO()
            if not more or kind not in ("JPEG", "BMP", "PPM"):
                pictures[0].save(buffer, kind, **more)
                seeds.append(buffer.getvalue())
    return seeds


def mutated(n: int) -> bool:
    """States of seeded mutants; whether none killed a worker and the pixels are those of decoding in process."""
    states, differ, peak, slowest = Counter[str](), 0, 0, 0.0
    with Pool(1, hashes=False) as pool:
        start = time.perf_counter()
        for data in mutants(mutant_seeds(), n):
            opened, media = pool.open(data)
            states[opened.state] += 1
            peak, slowest = max(peak, opened.peak_bytes), max(slowest, opened.seconds)
            if isinstance(media, np.ndarray) and opened.format != "AVIF":
                try:
                    differ += not np.array_equal(media, decode_image(data))
                except UnreadableSample:
                    differ += 1
        taken = time.perf_counter() - start
    print(
        f"{n:,} mutants in {taken:.0f} s (decoded in process too), slowest {slowest * 1e3:.0f} ms, peak of the worker "
        f"{peak / MiB:.0f} MiB, pixels that differ from decoding in process: {differ}\n"
    )
    print("| state | mutants |\n|---|---|")
    for state, k in states.most_common():
        print(f"| {state} | {k:,} |")
    return not differ and not {"crash", "io_error"} & set(states)


def faulty(n: int) -> bool:
    """Faults in 1 % of n files; whether exactly those are named and all others are the same to the bit."""
    small = photographs(50, 32)
    clean = [decode_image(data) for data in small]
    files, faults = [small[i % 50] for i in range(n)], {}
    for k, i in enumerate(np.random.default_rng(3).choice(n, n // 100, replace=False)):
        faults[int(i)] = FAULTS[k % len(FAULTS)]
        files[i] = marked(files[i], faults[int(i)])
    start, wrong, named = time.perf_counter(), 0, Counter[tuple[str, str]]()
    with Pool(2, Limits(wall_seconds=1), [FAULT], hashes=False) as pool:
        for i, (opened, media) in enumerate(pool.open_many(given(files))):
            if i in faults:
                named[faults[i], opened.state] += 1
            else:
                wrong += opened.state != "ok" or not np.array_equal(media, clean[i % 50])  # type: ignore[arg-type]
    print(
        f"{n:,} files, {len(faults)} with a fault, {time.perf_counter() - start:.0f} s; others not bit-equal: {wrong}\n"
    )
    print("| fault | state | files |\n|---|---|---|")
    for (fault, state), k in sorted(named.items()):
        print(f"| {fault} | {state} | {k} |")
    states = {"segfault": "crash", "abort": "crash", "leave": "crash", "hang": "timeout", "memory": "oom"}
    return not wrong and all(states[fault] == state for fault, state in named)


def given(files: Sequence[bytes]) -> Iterator[Callable[[], bytes]]:
    for data in files:
        yield lambda data=data: data  # type: ignore[misc]


def main() -> None:
    """Print the tables asked for; fail when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("price", "corpus", "bombs", "mutants", "faults")
    parser.add_argument("--part", action="append", choices=parts)
    parser.add_argument("--malformed", type=Path, required=False, default=Path("malformed"))
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=256, help="pixels a side of the photographs of `price`")
    asked = parser.parse_args()
    acts: dict[str, Callable[[], bool]] = {
        "price": lambda: price(photographs(80 if asked.side <= 256 else 16, asked.side)),
        "corpus": lambda: corpus(asked.malformed),
        "bombs": lambda: bombs(asked.malformed),
        "mutants": lambda: mutated(asked.n),
        "faults": lambda: faulty(asked.n),
    }
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Pillow {Image.__version__}\n")
    good = True
    for part in asked.part or parts:
        print(f"### {part}\n")
        good &= acts[part]()
        print()
    print(f"parent's peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    sys.exit(not good)


if __name__ == "__main__":
    main()
