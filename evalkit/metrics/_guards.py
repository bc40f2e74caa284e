"""What every metric refuses: too few rows, rows of unlike width, rows that are not finite numbers."""

from __future__ import annotations

from torch import Tensor

from ..errors import BadRows, BadSetting, TooFewSamples


def rows_of(side: str, rows: Tensor, least: int = 2) -> Tensor:
    """The rows [N, D] in float64, N >= `least` and all finite; `side` is the word the error names them by.

    float64, because every metric here takes differences of large sums of the float32 rows.
    """
    if rows.ndim != 2:
        raise BadRows(f"{side} rows have shape {tuple(rows.shape)}; expected [N, D]")
    if len(rows) < least:
        raise TooFewSamples(f"{len(rows)} {side} samples; this metric needs at least {least}")
    if not bool(rows.isfinite().all()):
        first = int((~rows.isfinite()).any(dim=1).nonzero()[0])
        raise BadRows(f"{side} row {first} holds NaN or infinity; check the instrument and the sample")
    return rows.double()


def two_sides(real_rows: Tensor, fake_rows: Tensor, least: int = 2) -> tuple[Tensor, Tensor]:
    """Both sides checked as in `rows_of`, and of one width."""
    real, fake = rows_of("real", real_rows, least), rows_of("fake", fake_rows, least)
    if real.shape[1] != fake.shape[1]:
        raise BadRows(f"real rows have {real.shape[1]} columns, fake rows {fake.shape[1]}; measure both alike")
    return real, fake


def scores_of(side: str, scores: Tensor, least: int = 2) -> Tensor:
    """One score a sample, [N] or [N, 1], as finite float64 [N] on the CPU."""
    column = scores[:, None] if scores.ndim == 1 else scores
    if column.ndim != 2 or column.shape[1] != 1:
        raise BadRows(f"{side} scores have shape {tuple(scores.shape)}; expected [N] or [N, 1], one score a sample")
    return rows_of(side, column, least)[:, 0].cpu()


def at_least_one(name: str, setting: int) -> int:
    """A whole setting that must be 1 or more."""
    if setting < 1:
        raise BadSetting(f"{name} is {setting}; it must be 1 or more")
    return setting
