"""Numbers as a reader wants them: three significant digits, one count of decimals down a column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from evalkit.types import Cell, Row

NOT_FINITE = "not a finite number"
MOST = 6
_THIN = "\u202f"


def finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def settled(cell: Cell) -> Cell:
    """The cell as it may be printed: a value that is no finite number becomes a reason, a broken interval goes."""
    if not finite(cell.value):
        return Cell(None, why=cell.why or (NOT_FINITE if cell.value is not None else "no reason given"))
    if finite(cell.low) and finite(cell.high):
        return cell
    return Cell(cell.value, None, None, cell.best, cell.tied, cell.why)


def column_cells(rows: Sequence[Row], index: int, *, drawn: bool = False) -> list[Cell]:
    """The cells that set a column's scale: the candidates' (with the ceilings' when drawn), else everyone's."""
    roles = ("candidate", "ceiling") if drawn else ("candidate",)
    cells = [settled(row.cells[index]) for row in rows if row.role in roles]
    if not any(cell.value is not None for cell in cells):
        cells = [settled(row.cells[index]) for row in rows]
    return [cell for cell in cells if cell.value is not None]


def _wanted(value: float) -> int:
    """Decimals that show three significant digits."""
    return min(MOST, max(0, 2 - math.floor(math.log10(abs(value)))))


def decimals(cells: Iterable[Cell]) -> int:
    """How many decimals a column gets: three digits for its middle value, up to three more where small values or
    narrow intervals would otherwise read as one and the same number."""
    kept = [settled(cell) for cell in cells]
    sizes = sorted(abs(cell.value) for cell in kept if cell.value)
    if not sizes:
        return 2
    middle = _wanted(sizes[len(sizes) // 2])
    places = min(middle + 1, max(_wanted(size) for size in sizes))
    for more in range(3):
        if not any(_collapses(cell, places + more) for cell in kept):
            return places + more
    return places


def _collapses(cell: Cell, places: int) -> bool:
    if cell.low is None or cell.high is None or cell.low == cell.high:
        return False
    return f"{cell.low:.{places}f}" == f"{cell.high:.{places}f}"


def number(value: float, places: int, *, sign: bool = False) -> str:
    """The value with at most so many decimals and four digits, thin spaces from 10 000 on, a true minus.

    Powers of ten stand from ten million on, and below what the finest column can show.
    """
    size = abs(value)
    if size >= 1e7 or (places >= MOST and size > 1e-30 and float(f"{size:.{places}f}") == 0):
        digits, _, power = f"{size:.2e}".partition("e")
        text = f"{digits}e{int(power)}".replace("-", "−")
    else:
        kept = min(places, max(0, 3 - math.floor(math.log10(size)))) if size >= 1 else places
        text = f"{size:,.{kept}f}"
        text = text.replace(",", _THIN if size >= 10_000 else "")
    zero = not text.strip("0.")
    if value < 0 and not zero:
        return "−" + text
    return "+" + text if sign and not zero else text


def interval(cell: Cell, places: int, *, sign: bool = False) -> str:
    """The interval as `[low, high]`; empty where the cell has none."""
    if cell.low is None or cell.high is None:
        return ""
    return f"[{number(cell.low, places, sign=sign)}, {number(cell.high, places, sign=sign)}]"


def p_words(p: float) -> str:
    """A p-value as readers expect it: two significant digits, "p < 0.001" below that."""
    if not math.isfinite(p):
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.0995 else f"p = {min(p, 1.0):.2f}"


def tick(value: float) -> str:
    """A number beside an axis: as few characters as it needs, k and M for thousands and millions."""
    size = abs(value)
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= scale:
            return f"{value / scale:.4g}{letter}".replace("-", "−")
    return f"{value:.4g}".replace("e-0", "e-").replace("-", "−")
