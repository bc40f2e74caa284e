"""The whole line on the embedded data, once, as a user runs it; then everything the board must get right.

Trains the reference generators and detectors in a fresh cache, which takes some minutes; every test below reads what
that one run wrote.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from evalkit import registry
from evalkit.cache import Cache
from evalkit.comparison import difference
from evalkit.generation import generate, trained
from evalkit.measurement import Bench, measure
from evalkit.records import read_record
from evalkit.samples import open_samples, select
from evalkit.types import Features, Generator, MetricResult, RunRecord

ROOT = Path(__file__).resolve().parent.parent

# Numbers on which real data must not be beaten and a floor must come last, whatever is trained.
QUALITY = {
    "image": (
        "fid@random_conv", "kid@random_conv", "fid@digits_net", "prdc@digits_net.recall", "prdc@digits_net.coverage",
        "c2st@pixels.auroc", "auroc@spectrum", "auroc@cnn",
    ),
    "text": ("kid@prose_states", "fid@prose_states", "c2st@prose_states.auroc", "auroc@likelihood"),
}  # fmt: skip
# Their intervals are up to twice as wide as they need be (docs/intervals.md).
WIDE = ("prdc@digits_net.recall", "fid@prose_states")
# Here a model may undercut real text by being dull, so only the floor has a place that is certain.
FLOOR_ONLY = (
    "perplexity@prose_lm",
    "bits_per_byte@prose_lm",
    "inception_score@digits_net",
    "classes@digits_net.confidence",
)


@dataclass(frozen=True)
class Run:
    """What the main job left behind."""

    out: Path
    cache: Path
    stdout: str
    stderr: str

    @property
    def records(self) -> dict[str, RunRecord]:
        found = [read_record(p) for p in sorted((self.out / "records").glob("*.json"))]
        return {f"{r.subject.modality}/{r.subject.name}": r for r in found}

    @property
    def board(self) -> dict[str, Any]:
        return dict(json.loads((self.out / "leaderboard.json").read_text()))

    def bench(self) -> Bench:
        return Bench(cache=Cache(self.cache))


def command(cache: Path, *arguments: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("EVALKIT_")}
    env = {**clean, "EVALKIT_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "evalkit.cli", *arguments],
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=env,
        cwd=cache.parent,
        # A suite that runs in the background of a script has Ctrl-C switched off, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("line")
    process = command(home / "cache", "compare", "--out", str(home / "report"))
    stdout, stderr = process.communicate(timeout=1500)
    assert process.returncode == 0, stderr
    return Run(home / "report", home / "cache", stdout, stderr)


def result(record: RunRecord, name: str) -> MetricResult:
    return next(r for r in record.results if r.name == name)


def of_role(run: Run, modality: str, role: str) -> list[RunRecord]:
    found = [r for r in run.records.values() if (r.subject.modality, r.subject.role) == (modality, role)]
    assert found
    return found


def is_worse(a: MetricResult, b: MetricResult) -> bool:
    """Whether a is worse than b by more than the interval of the difference."""
    _, low, high = difference(a, b)
    return low > 0 if a.better == "lower" else high < 0


def test_the_report_is_whole_small_and_asks_for_nothing(run: Run) -> None:
    files = {p.name for p in run.out.iterdir()}
    assert files == {"index.html", "leaderboard.json", "leaderboard.csv", "leaderboard.md", "records"}
    page = (run.out / "index.html").read_text()
    assert len(page.encode()) < 1_500_000
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?:https?:)?//", page)
    for title in ("Samples", "Quality against speed", "ROC of cnn", "cnn across generators", "Per class", "Provenance"):
        assert title in page
    assert len(run.records) == 9


def test_no_number_is_missing_and_every_number_has_interval_n_and_protocol(run: Run) -> None:
    for record in run.records.values():
        assert not [w for w in record.warnings if "missing" in w]
        assert len(record.results) >= 14
        for r in record.results:
            assert r.low <= r.value <= r.high and r.interval and r.protocol.startswith("sha256:")
    assert all(not c["refused"] for c in run.board["comparisons"])


@pytest.mark.parametrize("modality", ["image", "text"])
def test_real_data_is_not_beaten_and_floors_come_last_on_quality(run: Run, modality: str) -> None:
    [ceiling] = of_role(run, modality, "ceiling")
    for name in QUALITY[modality]:
        top = result(ceiling, name)
        for candidate in of_role(run, modality, "candidate"):
            own = result(candidate, name)
            assert not is_worse(top, own), f"{candidate.subject.name} is ahead of real data on {name}"
            for floor in of_role(run, modality, "floor"):
                low = result(floor, name)
                # Above 0.99 a detector leaves no room between two subjects.
                saturated = low.better == "lower" and 0.99 < own.value <= low.value <= 1
                assert saturated or _is_last(low, own), f"{floor.subject.name} vs {candidate.subject.name} on {name}"


def _is_last(floor: MetricResult, other: MetricResult) -> bool:
    """Whether a floor is behind: by more than the interval, or in value alone where intervals are known to be wide."""
    if floor.name in WIDE:
        return floor.value > other.value if floor.better == "lower" else floor.value < other.value
    return is_worse(floor, other)


@pytest.mark.parametrize("name", FLOOR_ONLY)
def test_floors_come_last_where_only_they_have_a_certain_place(run: Run, name: str) -> None:
    modality = "text" if "prose" in name else "image"
    for floor in of_role(run, modality, "floor"):
        for other in (*of_role(run, modality, "candidate"), *of_role(run, modality, "ceiling")):
            assert is_worse(result(floor, name), result(other, name))


@pytest.mark.parametrize(
    ("modality", "detector"), [("image", "cnn"), ("image", "spectrum"), ("text", "ngram_lr"), ("text", "likelihood")]
)
def test_detectors_beat_chance_on_what_they_learned_and_not_on_real_data(
    run: Run, modality: str, detector: str
) -> None:
    [ceiling] = of_role(run, modality, "ceiling")
    chance = result(ceiling, f"auroc@{detector}")
    assert chance.low <= 0.5 <= chance.high
    for record in (*of_role(run, modality, "candidate"), *of_role(run, modality, "floor")):
        found = result(record, f"auroc@{detector}")
        if detector in ("cnn", "ngram_lr"):
            assert found.low > 0.5, f"{detector} on {record.subject.name}: {found.value} [{found.low}, {found.high}]"
        assert found.high > 0.5


def test_digits_are_recognisable_of_the_class_asked_for_and_of_all_classes(run: Run) -> None:
    for name in ("gan", "vae", "diffusion"):
        record = run.records[f"image/{name}"]
        assert result(record, "classes@digits_net.confidence").value > 0.95
        assert result(record, "classes@digits_net.balance").value > 0.95
        drawn = drawn_by(run, name)
        rows = rows_of(run, drawn, "digits_net", "logits")
        wanted = [int(s.group or -1) for s in drawn]
        assert np.mean(rows.rows.argmax(1).numpy() == np.array(wanted)) > 0.9


def test_generated_prose_is_made_of_words(run: Run) -> None:
    known = {w for s in open_samples("embedded:prose") for w in re.findall(r"[a-z]+", str(s.load()).lower())}
    for name in ("lm", "ngram", "unigram"):
        words = [w for s in drawn_by(run, name) for w in re.findall(r"[a-z]+", str(s.load()).lower())]
        assert len(words) > 2000
        assert np.mean([w in known for w in words]) > 0.85, name


def model(run: Run, name: str) -> Generator:
    data = "digits" if registry.generators.get(name).modality == "image" else "prose"
    return trained(name, open_samples(f"embedded:{data}/train"), seed=0, bench=run.bench())


def drawn_by(run: Run, name: str) -> Any:
    n = run.records[f"image/{name}" if f"image/{name}" in run.records else f"text/{name}"].subject.n
    return generate(model(run, name), n, 0, run.bench(), model="0").samples


def rows_of(run: Run, samples: Any, instrument: str, head: str = "features") -> Features:
    return measure(samples, [registry.extractors.get(instrument)()], run.bench()).features[instrument].head(head)


def test_a_gan_sabotaged_to_one_mode_keeps_precision_and_loses_recall_and_coverage(run: Run) -> None:
    many = generate(model(run, "gan"), 3200, 7, run.bench(), model="0").samples
    whole, ones = select(many, range(320)), select(many, [i for i, s in enumerate(many) if s.group == "1"])
    assert len(ones) == 320
    real = rows_of(run, open_samples("embedded:digits/heldout"), "digits_net")
    prdc = registry.metrics.get("prdc").fn
    before, after = (prdc(real, rows_of(run, s, "digits_net")) for s in (whole, ones))
    assert after["precision"].value > before["precision"].value - 0.1
    assert after["recall"].high < before["recall"].low
    assert after["coverage"].high < before["coverage"].low


def test_doubling_the_sampling_steps_of_diffusion_doubles_the_work(run: Run) -> None:
    """Counted, not timed: on a busy machine seconds say little of so small a network."""
    data = open_samples("embedded:digits/train")
    work = {}
    for steps in (50, 100):
        generator = trained("diffusion", data, seed=0, bench=run.bench(), controls={"steps": steps})
        with FlopCounterMode(display=False) as counter:
            list(generator.sample(64, 1))
        work[steps] = counter.get_total_flops()
    assert work[50] > 0
    # Up to the embedding of the times, which is made once for all steps of a path.
    assert work[100] == pytest.approx(2 * work[50], rel=0.01)


def test_the_second_run_trains_nothing_and_finds_the_same_numbers(run: Run) -> None:
    before = {p.relative_to(run.cache): p.stat().st_mtime_ns for p in run.cache.rglob("*") if p.is_file()}
    again = run.out.parent / "again"
    process = command(run.cache, "compare", "--out", str(again), "-q")
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    after = {p.relative_to(run.cache): p.stat().st_mtime_ns for p in run.cache.rglob("*") if p.is_file()}
    assert after == before
    for path in sorted((run.out / "records").iterdir()):
        assert without_seconds(path) == without_seconds(again / "records" / path.name)


def without_seconds(path: Path) -> str:
    record = json.loads(path.read_text())
    for entry in record["results"]:
        entry.pop("seconds")
    return json.dumps(record)


def test_an_interrupted_run_keeps_what_was_finished_and_the_next_goes_on(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    arguments = [
        "compare",
        "noise",
        "vae",
        "--real",
        "embedded:digits",
        "-m",
        "fid@pixels",
        "--out",
        str(tmp_path / "r"),
    ]
    process = command(cache, *arguments)
    deadline = time.monotonic() + 300
    while not list(cache.glob("models/*/card.json")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; what was finished is kept" in stderr and "Traceback" not in stderr
    [card] = cache.glob("models/*/card.json")
    kept = card.stat().st_mtime_ns
    assert not list(cache.rglob("*.tmp")) and not (tmp_path / "r" / "index.html").exists()
    process = command(cache, *arguments)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    assert card.stat().st_mtime_ns == kept and len(list(cache.glob("models/*/card.json"))) == 2
    assert (tmp_path / "r" / "index.html").exists()
