"""A growing table of rows: in memory while it is small, in a file mapped into memory once it is large."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from .errors import RunFailed

if TYPE_CHECKING:
    from torch import Tensor

IN_MEMORY = 2**30  # bytes; a million rows of 2,048 columns are eight times that

CHECKED = 4096  # rows looked at once for NaN


class Rows:
    """float32 [n, D] filled batch by batch; D is what the first batch has."""

    def __init__(self, n: int, folder: Path | None) -> None:
        self.n = n
        self.folder = folder
        self.written = 0
        self._table: Tensor | None = None

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._table = None

    def put(self, positions: list[int], rows: Tensor) -> None:
        """Write rows [B, D] at their positions; RunFailed when they are wider or narrower than those before."""
        import torch

        if self._table is None:
            self._table = new_table(self.n, rows.shape[1], self.folder)
        if rows.shape[1] != self._table.shape[1]:
            raise RunFailed(f"rows of {rows.shape[1]} columns after rows of {self._table.shape[1]}")
        self._table[torch.tensor(positions)] = rows.to("cpu", torch.float32)
        self.written += len(positions)

    def taken(self, n: int) -> Tensor:
        """The first n rows; [0, 0] when nothing was written."""
        import torch

        return torch.empty(0, 0) if self._table is None else self._table[:n]


def new_table(n: int, width: int, folder: Path | None) -> Tensor:
    """An empty float32 [n, width]; a large one lies in a nameless file of `folder`, which goes when it is let go."""
    import torch

    if n * width * 4 <= IN_MEMORY:
        return torch.empty(n, width)
    with tempfile.NamedTemporaryFile(prefix=".rows.", dir=folder) as file:
        table = torch.from_file(file.name, shared=True, size=n * width, dtype=torch.float32)
    return table.view(n, width)


def not_finite(table: Tensor) -> list[int]:
    """The positions of rows that hold NaN or infinity, looked for block by block."""
    return [
        start + int(i)
        for start in range(0, len(table), CHECKED)
        for i in (~table[start : start + CHECKED].isfinite().all(dim=1)).nonzero()
    ]
