"""evalkit beside torch-fidelity, torchmetrics, clean-fid and pytorch-fid: what each stage of a run costs.

    python -m benchmarks.peers [--n 64] [--real FOLDER --fake FOLDER] [--threads 1] [--repeats 3] [--device cuda]
    python -m benchmarks.peers --statistics [--repeats 1]

Every tool runs in a process of its own on the same PNG files with the same random Inception weights; the repetitions of
the tools are interleaved, and medians are printed. On the CPU the unit is the CPU second of the process and its loader
processes, which other work on the machine disturbs less than the wall's; on a GPU it is the wall's. evalkit computes
four metrics with their intervals, torch-fidelity the same four without, the others FID alone. clean-fid's network is a
TorchScript that it downloads: evalkit's stands in for it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evalkit.hardware import device_label, peak_bytes, synchronise

from ._peer_cases import TOPICS, features
from ._peer_networks import Job, module
from ._peer_tools import BATCH, TOOLS, Evalkit

GFLOP = 11.426  # of one forward pass at 299 x 299, a multiplication and an addition counted apart
TIMED = 32  # images whose stages are timed
COMPOSED = 1000
MIB = 2**20

# End to end: (who, over whom, at least so many times as fast).
GOALS = [("evalkit", 1.8), ("evalkit, onnx", 2.2), ("evalkit, openvino", 2.2)]
# Statistics: (topic, ours, peer, at least so many times as fast).
FASTER = [
    ("frechet-below", "evalkit", "torch-fidelity (eigvals)", 8.0),
    ("frechet-below", "evalkit", "pytorch-fid (sqrtm)", 30.0),
    ("frechet-above", "evalkit", "torch-fidelity (eigvals)", 2.5),
    ("frechet-above", "evalkit", "pytorch-fid (sqrtm)", 8.0),
    ("kid-1k", "evalkit (all pairs, with interval)", "torch-fidelity", 50.0),
    ("kid-10k", "evalkit (all pairs, with interval)", "torch-fidelity", 1.0),
    ("prdc-10k", "evalkit (four shares)", "prdc (four shares)", 3.5),
    ("prdc-10k", "evalkit (four shares)", "torch-fidelity (precision and recall)", 1.6),
]
# (topic, ours, peer, at most one part in so many of its memory).
SMALLER = [("prdc-10k", "evalkit (four shares)", "prdc (four shares)", 6.0)]

Line = Mapping[str, Any]


# One process ----------------------------------------------------------------------------------------------


def clock(device: str) -> float:
    """CPU seconds of this process and of those it waited for; on a GPU, seconds of the wall once it is done."""
    if device != "cpu":
        synchronise(device)
        return time.perf_counter()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def timed(call: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Seconds of a call by `clock`, and what it gave."""
    start = clock(device)
    found = call()
    return clock(device) - start, found


def run_tool(name: str, job: Job, with_composed: bool) -> Iterator[Line]:
    """One tool's stages, each as a line: whole first, while memory is fresh."""
    yield {"stage": "start-up", "seconds": clock("cpu")}
    tool = TOOLS[name].tool(job)
    seconds, values = timed(tool.whole, job.device)
    yield {"stage": "whole", "seconds": seconds, "peak": peak_bytes("cpu") / MIB, "values": dict(values)}
    wanted = TOOLS[name].backend
    if isinstance(tool, Evalkit) and tool.backend() != wanted:
        yield {"stage": "absent", "why": f"this evalkit ran its network by {tool.backend()}, not by {wanted}"}
        return
    files = job.files
    shown = files[:TIMED]
    seconds, decoded = timed(lambda: [tool.decode(f) for f in files], job.device)
    yield {"stage": "decode", "seconds": seconds / len(files)}
    groups = [decoded[i : i + BATCH] for i in range(0, len(shown), BATCH)]
    tool.resize(groups[0])
    seconds, batches = timed(lambda: [tool.resize(group) for group in groups], job.device)
    yield {"stage": "resize", "seconds": seconds / len(shown)}
    with torch.no_grad():
        tool.forward(batches[0])
        seconds, _ = timed(lambda: [tool.forward(batch) for batch in batches], job.device)
    yield {"stage": "forward", "seconds": seconds / len(shown)}
    if with_composed:
        given = _drawn(COMPOSED)
        seconds, _ = timed(lambda: tool.numbers(*given), job.device)
        yield {"stage": "numbers at 1000", "seconds": seconds}


def _drawn(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of two sides and class scores, as numbers cost the same whatever they are of."""
    return features(n, 0), features(n, 1), torch.randn(n, 1008, generator=torch.Generator().manual_seed(2))


def run_case(topic: str, who: str, folder: Path) -> Iterator[Line]:
    """One tool's statistic: seconds, value, and memory beyond what held the rows."""
    case, n = TOPICS[topic].cases[who], TOPICS[topic].n
    rows = [torch.from_numpy(np.load(folder / f"{side}-{n}.npy", allow_pickle=False)) for side in (0, 1)]
    for name in case.modules:
        module(name)
    given = case.prepare(*rows)
    before = peak_bytes("cpu")
    seconds, value = timed(lambda: case.run(*given), "cpu")
    yield {"stage": "case", "seconds": seconds, "peak": (peak_bytes("cpu") - before) / MIB, "value": value}


def run_gemm(device: str) -> Iterator[Line]:
    """The device's own limit: float32 multiplications and additions a second in one large matrix product."""
    from evalkit.extractors._inception_net import full_precision

    side = 2048 if device == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    with full_precision(torch.device(device)):
        a @ b
        seconds = min(timed(lambda: a @ b, device)[0] for _ in range(5))
    yield {"stage": "gemm", "rate": 2 * side**3 / seconds / 1e9, "device": device_label(device)}


# All of them ----------------------------------------------------------------------------------------------


def child(arguments: list[str], environment: Mapping[str, str]) -> list[Line]:
    """Lines that this program prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peers", *arguments]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(environment), cwd=root, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return [{"stage": "absent", "why": last[:160]}]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def medians(lines: Iterable[Line]) -> dict[str, dict[str, float]]:
    """The median of every number of every stage over the repetitions."""
    found: dict[str, dict[str, list[float]]] = {}
    for line in lines:
        for key, value in line.items():
            if isinstance(value, float):
                found.setdefault(line["stage"], {}).setdefault(key, []).append(value)
    return {stage: {k: statistics.median(v) for k, v in own.items()} for stage, own in found.items()}


def make_inputs(folder: Path, n: int, side: int) -> Job:
    """2 x n images whose power falls as that of photographs does, and a weight file in the torch port's layout."""
    from PIL import Image

    inceptions = module("tests.inceptions")
    for seed, name in enumerate(("real", "fake")):
        (folder / name).mkdir()
        for i, image in enumerate(inceptions.photographs(n, side, side, seed)):
            Image.fromarray(image).save(folder / name / f"{i:05d}.png")
    torch.save(inceptions.random_port(), folder / "port.pth")
    return Job(folder / "real", folder / "fake", folder / "port.pth")


def compare_tools(job: Job, names: list[str], repeats: int) -> dict[str, list[Line]]:
    """Every tool's lines, the tools taking turns."""
    found: dict[str, list[Line]] = {name: [] for name in names}
    given = ["--real", str(job.real), "--fake", str(job.fake), "--weights", str(job.weights)]
    given += ["--device", job.device, "--threads", str(job.threads)]
    for turn in range(repeats):
        for name in names:
            first = ["--with-composed"] if turn == 0 else []
            print(f"{name}, {turn + 1} of {repeats}", file=sys.stderr)
            found[name] += child(["--tool", name, *given, *first], TOOLS[name].environment(job.threads))
    return found


def compare_statistics(
    folder: Path, topics: list[str], repeats: int, threads: int
) -> dict[tuple[str, str], list[Line]]:
    """Every case's lines, the cases taking turns."""
    for n in {TOPICS[topic].n for topic in topics}:
        for side in (0, 1):
            np.save(folder / f"{side}-{n}.npy", features(n, side).numpy())
    found: dict[tuple[str, str], list[Line]] = {}
    for turn in range(repeats):
        for topic in topics:
            for who in (w for w, case in TOPICS[topic].cases.items() if case.is_here):
                print(f"{topic}: {who}, {turn + 1} of {repeats}", file=sys.stderr)
                given = ["--topic", topic, "--who", who, "--rows", str(folder)]
                lines = child(given, TOOLS["evalkit"].environment(threads))
                found.setdefault((topic, who), []).extend(lines)
    return found


# Tables ---------------------------------------------------------------------------------------------------


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def composed(own: Mapping[str, Mapping[str, float]]) -> float:
    """Seconds of 2 x 1,000 images: every image's stages, and the numbers at N = 1,000."""
    per_image = sum(own[stage]["seconds"] for stage in ("decode", "resize", "forward"))
    return 2 * COMPOSED * per_image + own["numbers at 1000"]["seconds"]


def tools_report(found: Mapping[str, list[Line]], job: Job, gemm: Line) -> str:
    """The table of the tools, the goals, and what each tool found."""
    why = {name: str(line["why"]) for name, lines in found.items() for line in lines if line["stage"] == "absent"}
    by = {name: medians(lines) for name, lines in found.items() if name not in why and lines}
    unit = "CPU" if job.device == "cpu" else "wall"
    ours = composed(by["evalkit"]) if "evalkit" in by else float("nan")
    rows = []
    for name, own in by.items():
        each = [own[stage]["seconds"] * 1000 for stage in ("decode", "resize", "forward")]
        share = GFLOP / (own["forward"]["seconds"] * gemm["rate"])
        rows.append(
            [name, *(f"{ms:.1f}" for ms in each), f"{1000 / each[2]:.1f}", f"{share:.0%}"]
            + [f"{own[stage]['seconds']:.2f}" for stage in ("numbers at 1000", "start-up", "whole")]
            + [f"{own['whole']['peak']:.0f}", f"{composed(own):.0f}", f"{composed(own) / ours:.2f}x"]
        )
    n = len(job.files) // 2
    header = ["tool", "decode ms", "resize ms", "forward ms", "forward img/s", "of the limit"]
    header += ["numbers at 1,000 s", "start-up s", f"whole 2x{n} s", "peak MiB", "composed 2x1,000 s", "of evalkit's"]
    parts = [
        f"{gemm['device']}, torch {torch.__version__}, {job.threads} thread(s), {unit} seconds, medians; "
        f"limit: {gemm['rate']:.0f} GFLOP/s in a float32 matrix product, {GFLOP} GFLOP an image",
        table(header, rows),
        table(["goal, against torch-fidelity", "wanted", "composed", f"whole 2x{n}", "met"], list(_tool_goals(by))),
        "\n".join(f"- {name} is missing: {reason}" for name, reason in why.items()),
        "\n".join(f"- {name}: {_values(found[name])}" for name in by),
    ]
    return "\n\n".join(part for part in parts if part)


def _tool_goals(by: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[list[str]]:
    for name, wanted in GOALS:
        if name in by and "torch-fidelity" in by:
            peer, own = by["torch-fidelity"], by[name]
            ratio, whole = composed(peer) / composed(own), peer["whole"]["seconds"] / own["whole"]["seconds"]
            yield [name, f"{wanted:g}x", f"{ratio:.2f}x", f"{whole:.2f}x", "yes" if ratio >= wanted else "no"]


def _values(lines: list[Line]) -> str:
    values = next(line["values"] for line in lines if line["stage"] == "whole")
    return ", ".join(f"{name} {value:.6g}" for name, value in values.items())


def statistics_report(found: Mapping[tuple[str, str], list[Line]]) -> str:
    """A table a topic, and the goals."""
    by = {key: medians(lines)["case"] for key, lines in found.items() if lines and lines[0]["stage"] == "case"}
    parts = []
    for topic in dict.fromkeys(topic for topic, _ in found):
        mine = {who: own for (t, who), own in by.items() if t == topic}
        base = next(iter(mine.values()))["seconds"]
        rows = [
            [who, f"{own['seconds']:.3f}", f"{own['seconds'] / base:.1f}x", f"{own['peak']:.0f}", f"{own['value']:.9g}"]
            for who, own in mine.items()
        ]
        parts.append(f"**{TOPICS[topic].title}**\n\n" + table(["tool", "CPU s", "ratio", "extra MiB", "value"], rows))
    why = [f"- {who} ({topic}): {lines[0]['why']}" for (topic, who), lines in found.items() if "why" in lines[0]]
    goals = list(_statistics_goals(by))
    return "\n\n".join([*parts, table(["goal", "wanted", "measured", "met"], goals), *why])


def _statistics_goals(by: Mapping[tuple[str, str], Mapping[str, float]]) -> Iterator[list[str]]:
    for key, words, goals in (("seconds", "faster than", FASTER), ("peak", "smaller than", SMALLER)):
        for topic, ours, peer, wanted in goals:
            if (topic, ours) in by and (topic, peer) in by:
                ratio = by[topic, peer][key] / max(by[topic, ours][key], 1e-9)
                met = "yes" if ratio >= wanted else "no"
                yield [f"{topic}: {ours} {words} {peer}", f"{wanted:g}x", f"{ratio:.2f}x", met]


# Command --------------------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=64, help="images a side")
    parser.add_argument("--side", type=int, default=256, help="pixels a side of generated images")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--fake", type=Path)
    parser.add_argument("--weights", type=Path, help="an Inception in the torch port's layout; else a random one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tools", nargs="*", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--statistics", action="store_true", help="statistics of synthetic features instead")
    parser.add_argument("--topics", nargs="*", default=list(TOPICS), choices=list(TOPICS))
    for name in ("--tool", "--topic", "--who", "--rows"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--with-composed", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def lines_of(given: argparse.Namespace) -> Iterator[Line]:
    """What a process of one tool prints."""
    torch.set_num_threads(given.threads)
    if given.topic:
        return run_case(given.topic, given.who, Path(given.rows))
    if given.tool == "gemm":
        return run_gemm(given.device)
    job = Job(given.real, given.fake, given.weights, given.device, given.threads)
    return run_tool(given.tool, job, given.with_composed)


def main() -> None:
    """Run the tools in turn and print the tables; or, as a child, one tool's lines."""
    given = arguments()
    if given.tool or given.topic:
        for line in lines_of(given):
            print(json.dumps(line), flush=True)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.statistics:
            print(statistics_report(compare_statistics(folder, given.topics, given.repeats, given.threads)))
            return
        made = make_inputs(folder, 1 if given.real else given.n, given.side)
        job = Job(
            (given.real or made.real).resolve(),
            (given.fake or made.fake).resolve(),
            (given.weights or made.weights).resolve(),
            given.device,
            given.threads,
        )
        here = [tool for tool in given.tools if TOOLS[tool].is_here]
        (gemm,) = child(["--tool", "gemm", "--device", job.device, "--threads", str(job.threads)], dict(os.environ))
        print(tools_report(compare_tools(job, here, given.repeats), job, gemm))


if __name__ == "__main__":
    main()
