"""Copied passages, picked samples, trade-offs and operating points: by hand, and against an independent search."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.operating import operating_exhibits, resolves
from evalkit.samples._set import ListedSet, loaded
from evalkit.showing import SHORTEST, Copied, marked, passages, picked_grids, tradeoffs
from evalkit.types import Cell, Column, Curves, Features, Marked, MetricResult, RunRecord, Sample, Share, Subject, Table

from .boards import images

TRAIN = "the cat sat on the mat and looked at the moon for hours"


def test_a_passage_is_found_as_long_as_it_is() -> None:
    finder = Copied([TRAIN, "cat sat on the mat and then it went away"])
    (found,) = finder.passages("Then the cat sat on the mat and looked up there")
    assert found.words == 8 and found.place == 0
    text = "Then the cat sat on the mat and looked up there"
    assert text[found.start : found.stop] == "the cat sat on the mat and looked"
    assert TRAIN[found.at : found.at + found.stop - found.start] == text[found.start : found.stop]


def test_other_spaces_other_letters_and_few_words_are_no_copy() -> None:
    finder = Copied([TRAIN])
    assert finder.passages("the cat sat  on the mat") == ()  # two spaces
    assert finder.passages("The cat sat on the") == ()
    assert finder.passages("the cat sat on the") == () and SHORTEST == 6
    assert marked("nothing of it", finder) == "nothing of it"
    assert marked(TRAIN, finder) == Marked(TRAIN, ((0, len(TRAIN)),))
    assert marked(TRAIN, None) == TRAIN


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("ab"), max_size=14), max_size=3), st.lists(st.sampled_from("ab"), max_size=16))
def test_passages_agree_with_a_plain_search(train: list[list[str]], words: list[str]) -> None:
    texts, text = [" ".join(line) for line in train], " ".join(words)
    found, k = [], 0
    while k < len(words):  # leftmost, then longest
        fits = [
            n for n in range(len(words) - k, SHORTEST - 1, -1) if any(holds(line, words[k : k + n]) for line in train)
        ]
        if fits:
            found.append((2 * k, 2 * (k + fits[0]) - 1))
        k += fits[0] if fits else 1
    assert [(p.start, p.stop) for p in Copied(texts).passages(text)] == found


def holds(line: list[str], part: list[str]) -> bool:
    return any(line[k : k + len(part)] == part for k in range(len(line)))


def entrant(name: str, texts: list[str], shares: dict[str, float] | None = None) -> Any:
    samples = ListedSet(name, "text", tuple(Sample(f"{i}", str(i), loaded(text)) for i, text in enumerate(texts)), name)
    result = MetricResult("fid@x", 1.0, 0.9, 1.1, 0.95, "j", "lower", "u", {}, 1, "p", {}, 0.0)
    kept = None if shares is None else {"fid@x": tuple(Share(k, v) for k, v in shares.items())}
    record = RunRecord(
        Subject(name, "text", name, len(texts), "d"), None, None, 0, (result,), None, {}, attribution=kept
    )
    sides = SimpleNamespace(fake=SimpleNamespace(samples=samples), train=None)
    return SimpleNamespace(entrant=SimpleNamespace(name=name, role="candidate"), sides=sides, record=record)


def test_the_longest_passages_stand_beside_their_training_text() -> None:
    copier = entrant("copier", ["x the cat sat on the mat and y", TRAIN, "all new words here"])
    shown = passages([copier, entrant("honest", ["nothing of it"])], Copied([TRAIN]))
    assert shown is not None and [name for name, _ in shown.lines] == ["copier"]
    first, second = shown.lines[0][1]
    assert (first.says, second.says) == ("13 words in a row", "7 words in a row")
    assert first.sample == Marked(TRAIN, ((0, len(TRAIN)),)) and first.neighbour == first.sample
    assert passages([entrant("honest", ["nothing of it"])], Copied([TRAIN])) is None


def test_best_median_and_worst_are_picked_by_what_each_sample_adds() -> None:
    shares = {str(i): float(i) for i in range(9)}  # fid: lower is better, so sample 8 harms most
    (grid,) = picked_grids([entrant("gan", [f"text {i}" for i in range(9)], shares)], lambda sample, _: sample.id)
    assert grid.lines == (("gan: best", ("0", "1")), ("gan: median", ("5", "4")), ("gan: worst", ("8", "7")))
    assert "none was picked by hand" in grid.rule.lower()
    assert list(picked_grids([entrant("gan", ["a"], None)], lambda sample, _: sample.id)) == []


def test_precision_against_recall_with_its_front() -> None:
    (chart,) = tradeoffs(images())
    assert [p.name for p in chart.points] == ["resample", "diffusion", "gan", "vae", "noise"]
    diffusion = chart.points[1]
    assert (diffusion.x, diffusion.y, diffusion.left, diffusion.right) == (0.903, 0.921, 0.903 - 0.019, 0.903 + 0.019)
    # gan is more precise, diffusion reaches more; vae loses in both; ceiling and floor do not compete.
    assert chart.front == ("gan", "diffusion")
    assert list(tradeoffs(dataclasses.replace(images(), columns=(), rows=()))) == []


def judge(real: list[float], fake: list[float]) -> Any:
    def side(scores: list[float]) -> Features:
        samples = ListedSet("s", "text", tuple(Sample(str(i), str(i), loaded("x")) for i in range(len(scores))), "s")
        rows = torch.tensor(scores)[:, None]
        detector = SimpleNamespace(name="d", heads={"p_fake": slice(0, 1)})
        return Features(rows, detector, samples)  # type: ignore[arg-type]

    return SimpleNamespace(real=side(real), fake=side(fake))


def test_rates_that_so_few_reals_cannot_tell_are_not_given() -> None:
    assert resolves(300, 0.01) and not resolves(299, 0.01) and resolves(3000, 0.001) and not resolves(2999, 0.001)
    real = [i / 1000 for i in range(400)]
    shown = list(operating_exhibits("d", {"gan": judge(real, [0.39 + i / 500 for i in range(200)])}, "says."))
    table = next(e for e in shown if isinstance(e, Table))
    assert table.header == ("subject", "real + generated", "TPR at 1 % FPR", "TPR at 0.1 % FPR")
    ((name, n, one, tenth),) = table.rows
    assert (name, n) == ("gan", "400 + 200")
    # Four of 400 reals may be flagged: the threshold lies above 0.395, the fifth largest; 0.396 and up are caught.
    assert one.startswith("0.985 [")
    assert tenth == "not resolvable with n = 400 (3 000 needed)"


def test_detector_curves_by_hand() -> None:
    shown = list(operating_exhibits("d", {"gan": judge([0.1, 0.2, 0.6, 0.3], [0.5, 0.9, 0.8, 0.15])}, "says."))
    roc, det, reliability = (e for e in shown if isinstance(e, Curves))
    assert (roc.x_scale, det.x_scale, det.y_scale, reliability.x_scale) == ("log", "probit", "probit", "linear")
    assert roc.lines[0].points[0] == (0.0, 0.0) and (0.0, 0.5) in roc.lines[0].points
    inside = [(x, y) for x, y in roc.lines[0].points if 0 < x < 1 and 0 < y < 1]
    assert det.lines[0].points == tuple((x, 1 - y) for x, y in inside)
    assert sum(reliability.lines[0].counts) == 8 and len(reliability.lines[0].counts) == len(
        reliability.lines[0].points
    )
    # A perfect detector makes no error: nothing to draw, and nothing crashes.
    perfect = list(operating_exhibits("d", {"gan": judge([0.1, 0.2], [0.8, 0.9])}, "says."))[:1]
    assert isinstance(perfect[0], Curves)


def test_columns_of_single_groups_make_no_trade_off() -> None:
    column = Column("prdc.precision@x.group=1", "higher", "", "p", {}, "")
    other = Column("prdc.recall@x.group=1", "higher", "", "p", {}, "")
    comparison = dataclasses.replace(images(), columns=(column, other), rows=())
    assert list(tradeoffs(comparison)) == [] and Cell(None).value is None
