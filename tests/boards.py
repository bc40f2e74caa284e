"""A realistic leaderboard, images and texts with every kind of exhibit, for tests and pictures of the reports."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.types import (
    Cell,
    Column,
    Comparison,
    Curves,
    Excluded,
    Grid,
    Leaderboard,
    Line,
    Matrix,
    MetricResult,
    Pair,
    Pairs,
    Picture,
    Point,
    Reference,
    Role,
    Row,
    RunRecord,
    Scatter,
    Subject,
    Table,
)

from .apart import differences, standings

NO_DETECTOR = "no detector was trained: 40 samples, 64 needed"
NOT_TIMED = "held-out real data are not generated, so they have no speed"

Spec = tuple[str, Any, str, dict[str, Any]]

# metric, direction, unit, then for each subject its value ± half an interval, or why there is none
IMAGE_LINES = """
fid@random_conv            lower  squared_distance 1.482±0.21 4.317±0.32 7.204±0.51 18.91±0.94 412.3±6.1
throughput                 higher samples_a_second untimed 311.6±4.2 18402±310 21877±402 154210±2100
kid@random_conv            lower  squared_MMD      -0.00012±4e-4 0.00214±0.0006 0.00251±0.0007 0.0118±0.001 0.731±0.004
prdc.precision@digits_net  higher share            0.952±0.014 0.921±0.017 0.934±0.016 0.812±0.024 0±0
prdc.recall@digits_net     higher share            0.948±0.013 0.903±0.019 0.641±0.031 0.588±0.03 0±0
prdc.density@digits_net    higher ratio            1.012±0.03 0.971±0.03 1.104±0.04 0.702±0.04 0±0
prdc.coverage@digits_net   higher share            0.971±0.009 0.944±0.014 0.781±0.027 0.634±0.031 0.0019±0.0018
inception_score@digits_net higher exp_nats         9.41±0.08 9.12±0.11 8.87±0.13 8.02±0.17 1.62±0.05
c2st.auroc@random_conv     lower  AUROC            0.503±0.031 0.612±0.029 0.741±0.026 0.938±0.013 1±0
memorization@pixels        lower  probability      0.498±0.03 0.534±0.03 0.487±0.031 0.442±0.03 0.001±0.001
auroc@spectrum             lower  AUROC            0.507±0.041 0.688±0.037 0.913±0.019 0.991±0.005 1±0
auroc@cnn                  lower  AUROC            0.496±0.042 0.802±0.031 0.957±0.012 undetected 1±0
"""
TEXT_LINES = """
bits_per_byte@prose_lm     lower  bits             2.214±0.04 2.391±0.05 2.442±0.05 4.871±0.06
perplexity@prose_lm        lower  exp_nats         41.2±2 55.9±2.9 60.1±3.3 4120±210
distinct                   higher share            0.731±0.011 0.644±0.013 0.662±0.012 0.902±0.006
self_bleu                  lower  BLEU             0.204±0.012 0.311±0.014 0.288±0.013 0.091±0.006
novelty                    higher share            0.912±0.008 0.874±0.011 0.402±0.019 1±0
auroc@ngram_lr             lower  AUROC            0.512±0.05 0.844±0.031 0.951±0.017 1±0
"""
IMAGE_ROLES: dict[str, Role] = {
    "resample": "ceiling",
    "diffusion": "candidate",
    "gan": "candidate",
    "vae": "candidate",
    "noise": "floor",
}
TEXT_ROLES: dict[str, Role] = {"resample": "ceiling", "lm": "candidate", "ngram": "candidate", "unigram": "floor"}
REASONS = {"untimed": NOT_TIMED, "undetected": NO_DETECTOR}


def _specs(lines: str, roles: Mapping[str, Role]) -> tuple[Spec, ...]:
    found = []
    for name, better, unit, *cells in (line.split() for line in lines.strip().splitlines()):
        values = [REASONS[c] if c in REASONS else tuple(map(float, c.split("±"))) for c in cells]
        found.append((name, better, unit.replace("_", " "), dict(zip(roles, values, strict=True))))
    return tuple(found)


IMAGE, TEXT = _specs(IMAGE_LINES, IMAGE_ROLES), _specs(TEXT_LINES, TEXT_ROLES)
# Each digit as five rows of three dots, in octal.
GLYPHS = ("75557", "26227", "71747", "71717", "55711", "74717", "74757", "71122", "75757", "75711")
PROSE = {
    "resample": (
        "The yield expression is used when defining a generator function or an asynchronous generator function and "
        "thus can only be used in the body of a function definition.",
        "A block is a piece of program text that is executed as a unit.",
        "If the object is a class instance, the search for the attribute begins with the type of the instance.",
    ),
    "lm": (
        "The expression is evaluated in the class definition of the method, which is called with the object's value.",
        "An object is a sequence of the target list. If the value is not a string, the exception is raised.",
        "When a function is called, the name of the class body is used\nas the default of its first argument.",
    ),
    "ngram": (
        "The return value of the form of the following is the same type as the argument is a mapping object.",
        "In the case of a class is created with the name of a generator function is executed.",
        "Changed in version 3.8: the format specification, the interpreter is not a valid identifier.",
    ),
    "unigram": (
        "of the is object a value with not to class string the",
        "method in or it as if returns are by be the and from",
        "the, type. an at when Changed the argument are is that of",
    ),
}


def png(rows: Sequence[Sequence[int]]) -> str:
    """Data URI of a grey PNG; rows of values 0 to 255."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    body = b"".join(b"\0" + bytes(row) for row in rows)
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body, 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def digits(subject: str, count: int, start: int = 0) -> tuple[Picture, ...]:
    """Pictures of digits, 8 x 8, the rougher the worse the subject is; `noise` is noise."""
    rough = {"resample": 0.05, "diffusion": 0.12, "gan": 0.25, "vae": 0.45}.get(subject, 1.0)
    found = []
    for place in range(start, start + count):
        glyph, dust = GLYPHS[place % 10], [zlib.crc32(f"{subject} {place} {k}".encode()) % 256 for k in range(64)]
        dots = ["00000", *(f"0{int(line):03b}0" for line in glyph), "00000"]
        ink = [255 * int(dots[k // 8 * 7 // 8][(k % 8 + 1) // 2]) for k in range(64)]
        mixed = [int((1 - rough) * a + rough * b) for a, b in zip(ink, dust, strict=True)]
        found.append(Picture(png([mixed[8 * k : 8 * k + 8] for k in range(8)]), f"{subject}, class {place % 10}"))
    return tuple(found)


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def board() -> Leaderboard:
    """Two comparisons, images and texts, with a tie, an empty cell, a refusal, a warning and an exclusion each."""
    comparisons = (images(), texts())
    return Leaderboard(
        title="Reference generators on the embedded data",
        comparisons=comparisons,
        records=tuple(record for comparison in comparisons for record in records(comparison)),
        provenance={
            "command": "evalkit compare --seed 0 --out evalkit-report",
            "evalkit": "0.1.0, commit 4f0c2d1",
            "python": "3.11.7",
            "torch": "2.15.0",
            "device": "cpu, 2 threads",
            "seed": "0",
            "embedded:digits": digest("digits"),
        },
    )


def images() -> Comparison:
    subjects = tuple(IMAGE_ROLES)
    return Comparison(
        modality="image",
        title="Images against embedded:digits, held out",
        reference=Reference("embedded:digits (held out)", 898, digest("held-out digits")),
        **_table(IMAGE, IMAGE_ROLES),
        refused=("throughput of diffusion at 50 steps: measured on another device (cuda:0) than the column's (cpu)",),
        verdict=(
            "diffusion is best: fid@random_conv 4.32 [4.00, 4.64], lower than gan by 2.89 [2.28, 3.49].",
            "It leads in 6 of 12 measures and ties in 2; gan is 59 times faster.",
            "Floors come last and the ceiling first on every quality measure, so the board can be read.",
        ),
        warnings=("prdc.density@digits_net: 1 subject exceeds the ceiling, which points to clustered samples.",),
        excluded=(("gan", Excluded("gan/000131.png", "truncated: 212 of 604 bytes")),),
        exhibits=(
            Grid(
                "Samples",
                "The first 20 samples of seed 0, not chosen by eye; the same labels for each subject.",
                tuple((name, digits(name, 20)) for name in subjects),
            ),
            quality_against_speed(),
            roc(),
            cross_generator(),
            per_class(),
            Pairs(
                "Nearest training neighbours",
                "The six samples nearest to the training data, by distance in pixels; a copy would have distance 0.",
                tuple((name, _pairs(name)) for name in subjects[1:4]),
            ),
        ),
    )


def texts() -> Comparison:
    lines = tuple((name, samples) for name, samples in PROSE.items())
    pairs = (
        Pair(PROSE["lm"][0], PROSE["resample"][0], "longest shared run: 4 words"),
        Pair(PROSE["lm"][1], PROSE["resample"][1], "longest shared run: 3 words"),
    )
    return Comparison(
        modality="text",
        title="Texts against embedded:prose, held out",
        reference=Reference("embedded:prose (held out)", 512, digest("held-out prose")),
        **_table(TEXT, TEXT_ROLES),
        refused=(),
        verdict=(
            "lm and ngram cannot be told apart: bits_per_byte@prose_lm 2.39 [2.34, 2.44] and 2.44 [2.39, 2.49].",
            "lm repeats its training text far less: novelty 0.874 [0.863, 0.885] against 0.402 [0.383, 0.421].",
        ),
        exhibits=(
            Grid("Sample texts", "The first three samples of seed 0.", lines),
            Curves(
                "Detectors of texts",
                "Receiver operating characteristic on the scored split; real is the negative class.",
                "false positive rate",
                "true positive rate",
                tuple(_roc(name, power) for name, power in (("ngram_lr on lm", 0.3), ("likelihood on lm", 0.18))),
                diagonal=True,
            ),
            Pairs("Nearest training texts", "By shared four-word runs.", (("lm", pairs),)),
        ),
    )


def quality_against_speed() -> Scatter:
    fid, speed = IMAGE[0][3], IMAGE[1][3]
    points = []
    for name, role in IMAGE_ROLES.items():
        height, across = fid[name], speed[name]
        if not isinstance(height, str) and not isinstance(across, str):
            points.append(Point(name, across[0], height[0], height[0] - height[1], height[0] + height[1], role))
    return Scatter(
        "Quality against speed",
        "Lower and further right is better.",
        "throughput in samples a second ↑",
        "fid@random_conv ↓",
        tuple(points),
        log_x=True,
        log_y=True,
    )


def roc() -> Curves:
    lines = tuple(_roc(f"{judge} on {name}", power) for judge, name, power in (
        ("cnn", "gan", 0.05), ("spectrum", "gan", 0.1), ("cnn", "diffusion", 0.25), ("spectrum", "diffusion", 0.5)
    ))  # fmt: skip
    note = "Each detector on the generator it was trained on; samples shared by no split."
    return Curves("Detectors of images", note, "false positive rate", "true positive rate", lines, diagonal=True)


def cross_generator() -> Matrix:
    names = ("diffusion", "gan", "vae", "noise")
    numbers = ((0.80, 0.64, 0.71, 0.99), (0.58, 0.96, 0.83, 0.97), (0.44, 0.62, 0.99, 1.0), (0.5, 0.51, 0.47, 1.0))
    cells = [[Cell(v, max(v - 0.03, 0.0), min(v + 0.03, 1.0)) for v in line] for line in numbers]
    cells[2][3] = Cell(None, why=NO_DETECTOR)
    return Matrix(
        "Detectors across generators",
        "AUROC of the cnn detector trained on one generator and tested on another; 0.5 is chance.",
        "trained on",
        "tested on",
        names,
        names,
        tuple(tuple(line) for line in cells),
    )


def per_class() -> Table:
    header = ("class", "real", "diffusion", "gan", "vae", "confidence of diffusion")
    shares = [(10.0, 9.2 + k * 0.17, 14.0 - k, 8 + k / 3) for k in range(10)]
    rows = tuple((str(k), *(f"{s:.1f} %" for s in line), f"{0.99 - k / 50:.3f}") for k, line in enumerate(shares))
    return Table("Classes", "Share of each class as digits_net sees it.", header, rows)


def records(comparison: Comparison) -> tuple[RunRecord, ...]:
    """One record a subject, with the results that the board shows."""
    found = []
    for row in comparison.rows:
        results = tuple(
            _result(column, cell)
            for column, cell in zip(comparison.columns, row.cells, strict=True)
            if cell.value is not None
        )
        subject = Subject(row.name, comparison.modality, f"runs/{row.name}", row.n, digest(row.name), row.role)
        environment = {"evalkit": "0.1.0", "torch": "2.15.0", "device": "cpu"}
        found.append(RunRecord(subject, comparison.reference, None, 0, results, None, environment))
    return tuple(found)


def _result(column: Column, cell: Cell) -> MetricResult:
    value, low, high = cell.value or 0.0, cell.low or 0.0, cell.high or 0.0
    fixed = (column.interval, column.better, column.unit, column.n, 1, column.protocol)
    return MetricResult(column.name, value, low, high, 0.95, *fixed, {}, 0.1)


def _table(specs: Sequence[Spec], roles: dict[str, Role]) -> dict[str, Any]:
    n = {"real": 898, "fake": 600}
    columns = tuple(Column(name, better, unit, digest(name), n, "jackknife") for name, better, unit, _ in specs)
    best, ties, deltas, cells = {}, {}, {}, {}
    standing, told = {}, {}
    for name, better, _, values in specs:
        candidates = {k: v for k, v in values.items() if roles[k] == "candidate" and not isinstance(v, str)}
        pick = min if better == "lower" else max
        leader = pick(candidates, key=lambda k: candidates[k][0])
        top = candidates[leader]
        best[name] = leader
        standing[name], told[name] = standings(candidates, better), differences(candidates, better)
        gaps = {k: _difference(v, top) for k, v in candidates.items() if k != leader}
        ties[name] = tuple(k for k, d in gaps.items() if (d.low or 0) <= 0 <= (d.high or 0))
        deltas[name] = gaps
        for subject, found in values.items():
            cells[subject, name] = _cell(found, subject == leader, subject in ties[name])
    rows = tuple(Row(s, role, tuple(cells[s, spec[0]] for spec in specs), 600) for s, role in roles.items())
    found = {"columns": columns, "rows": rows, "best": best, "ties": ties, "deltas": deltas}
    return {**found, "standings": standing, "differences": told}


def _difference(one: tuple[float, float], two: tuple[float, float]) -> Cell:
    gap, half = one[0] - two[0], math.hypot(one[1], two[1])
    return Cell(gap, gap - half, gap + half)


def _cell(found: tuple[float, float] | str, best: bool, tied: bool) -> Cell:
    if isinstance(found, str):
        return Cell(None, why=found)
    return Cell(found[0], found[0] - found[1], found[0] + found[1], best=best, tied=tied)


def _pairs(name: str) -> tuple[Pair, ...]:
    samples, neighbours = digits(name, 6, 40), digits("resample", 6, 40)
    return tuple(
        Pair(a, b, f"distance {1.4 + k / 3:.2f}") for k, (a, b) in enumerate(zip(samples, neighbours, strict=True))
    )


def _roc(name: str, power: float) -> Line:
    points = tuple((k / 100, (k / 100) ** power) for k in range(101))
    return Line(
        name, points, f"AUROC {1 / (1 + power):.3f} [{1 / (1 + power) - 0.02:.3f}, {1 / (1 + power) + 0.02:.3f}]"
    )
