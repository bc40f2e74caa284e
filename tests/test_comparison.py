"""The board: equal protocols share a column, ties are called ties, floors and ceilings frame but never win."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.comparison import compare_records, difference
from evalkit.errors import ModalityMismatch, NothingToEvaluate
from evalkit.types import Role, RunRecord
from tests.test_records import record, result


def subject(name: str, value: float, half: float = 0.5, role: Role = "candidate", **changes: object) -> RunRecord:
    made = record(name, result(value=value, low=value - half, high=value + half, **changes))
    return replace(made, subject=replace(made.subject, role=role), excluded=(), warnings=())


def test_the_best_candidate_wins_and_a_floor_never_does() -> None:
    board = compare_records([subject("a", 5), subject("b", 2), subject("luck", 1, role="floor")])
    assert board.best == {"fid@pixels": "b"}
    assert [row.name for row in board.rows] == ["b", "a", "luck"]
    assert [row.cells[0].best for row in board.rows] == [True, False, False]


def test_higher_is_better_where_the_metric_says_so() -> None:
    records = [subject("a", 0.5, 0.01, better="higher"), subject("b", 0.9, 0.01, better="higher")]
    assert compare_records(records).best == {"fid@pixels": "b"}


def test_a_difference_whose_interval_includes_zero_is_a_tie() -> None:
    # Half-widths 0.5 and 0.5 add to 0.707 in squares: 0.7 apart is a tie, 0.72 is not.
    assert compare_records([subject("a", 2), subject("b", 2.70)]).ties == {"fid@pixels": ("b",)}
    assert compare_records([subject("a", 2), subject("b", 2.72)]).ties == {}


def test_difference_by_hand_and_its_mirror() -> None:
    a, b = result(value=3.0, low=2.7, high=3.4), result(value=1.0, low=0.6, high=1.3)
    gap, low, high = difference(a, b)
    assert gap == 2.0
    assert low == pytest.approx(2 - (0.3**2 + 0.3**2) ** 0.5)
    assert high == pytest.approx(2 + (0.4**2 + 0.4**2) ** 0.5)
    assert difference(b, a) == pytest.approx((-gap, -high, -low))


def test_unlike_protocols_are_refused_with_what_differs() -> None:
    terms = {"reference": "sha256:aaaaaaaaaaaaaaaaaaaaaa", "n": {"real": 10}}
    other = {"reference": "sha256:bbbbbbbbbbbbbbbbbbbbbb", "n": {"real": 10}}
    records = [
        subject("a", 1, terms=terms),
        subject("b", 2, terms=terms),
        subject("c", 3, terms=other, protocol="sha256:q"),
    ]
    board = compare_records(records)
    assert board.refused == (
        "fid@pixels of c is not comparable: reference is sha256:bbbbbbbbbbbb, the others have sha256:aaaaaaaaaaaa",
    )
    [cell] = [row.cells[0] for row in board.rows if row.name == "c"]
    assert cell.value is None and "another protocol" in cell.why


def test_an_empty_cell_has_the_reason_of_its_warning() -> None:
    missing = replace(
        record("m", result("kid@pixels")), warnings=("fid@pixels is missing: too few samples",), excluded=()
    )
    board = compare_records([subject("a", 1), missing])
    cells = {row.name: dict(zip([c.name for c in board.columns], row.cells, strict=True)) for row in board.rows}
    assert cells["m"]["fid@pixels"].why == "too few samples"
    assert cells["a"]["kid@pixels"].why == "not measured for this subject"


def test_two_modalities_or_no_record_make_no_board() -> None:
    text = record("t")
    with pytest.raises(ModalityMismatch, match=r"t \(text\)"):
        compare_records([record("a"), replace(text, subject=replace(text.subject, modality="text"))])
    with pytest.raises(NothingToEvaluate):
        compare_records([])


def test_the_verdict_says_who_by_how_much_and_what_the_frame_shows() -> None:
    board = compare_records(
        [subject("real", 3, role="ceiling"), subject("a", 1), subject("b", 9), subject("f", 4, role="floor")]
    )
    said = " ".join(board.verdict)
    assert "a leads on fid@pixels: 1 [0.5, 1.5], ahead of b by 8" in said
    assert "better than held-back real data" in said and "fid@pixels (a)" in said
    assert "A floor is ahead of a candidate" in said and "fid@pixels (f)" in said
    assert "Clear first places" not in said
    calm = compare_records([subject("real", 1, role="ceiling"), subject("a", 2), subject("b", 9)])
    assert "held-back" not in " ".join(calm.verdict) and "floor" not in " ".join(calm.verdict)


def test_deltas_are_from_the_best_with_an_interval() -> None:
    board = compare_records([subject("a", 2), subject("b", 5)])
    delta = board.deltas["fid@pixels"]["b"]
    assert delta.value == 3 and delta.low == pytest.approx(3 - 0.5 * 2**0.5)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8), st.randoms())
def test_the_board_does_not_depend_on_the_order_of_the_records(values: list[float], order: object) -> None:
    records = [subject(f"s{i}", value) for i, value in enumerate(values)]
    shuffled = list(records)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = compare_records(records), compare_records(shuffled)
    assert first.best == second.best
    assert {k: set(v) for k, v in first.ties.items()} == {k: set(v) for k, v in second.ties.items()}
