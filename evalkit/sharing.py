"""Several processes of one host on one set: each measures a share of it, and all get all rows.

`torchrun --nproc-per-node 4 -m evalkit score ...` starts the processes, one a GPU. Every process opens the sources
itself; shares are whole stretches of batches, so a row does not depend on how many processes there are. The first
process then goes on alone.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .errors import EvalkitError, ExitCode, RunFailed
from .rows import new_table

if TYPE_CHECKING:
    from torch import Tensor


class HelperDone(EvalkitError):
    """A helping process has nothing left to do; no failure."""

    exit_code = ExitCode.DONE


class Team(Protocol):
    """The processes that share the measuring; `rank` 0 is the one that goes on with the rows."""

    rank: int

    def share(self, n: int, stretch: int) -> tuple[int, int]: ...
    def joined(self, rows: Tensor, folder: Path | None) -> Tensor: ...
    def together(self, found: Iterable[Any]) -> list[Any]: ...
    def part(self) -> None: ...


class Alone:
    """One process: everything is its own."""

    rank = 0

    def share(self, n: int, stretch: int) -> tuple[int, int]:
        return 0, n

    def joined(self, rows: Tensor, folder: Path | None) -> Tensor:
        return rows

    def together(self, found: Iterable[Any]) -> list[Any]:
        return list(found)

    def part(self) -> None:
        pass


class Processes:
    """The processes torchrun started, joined through torch.distributed (gloo) and a file that all map."""

    def __init__(self) -> None:
        import torch.distributed as dist

        if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) != int(os.environ["WORLD_SIZE"]):
            raise RunFailed("evalkit shares the work among processes of one host; start torchrun with one node")
        if not dist.is_initialized():
            dist.init_process_group("gloo")
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def share(self, n: int, stretch: int) -> tuple[int, int]:
        """First and last + 1 of the samples this process measures: whole stretches, each sample exactly once."""
        stretches = -(-n // stretch)
        first, last = self.rank * stretches // self.world, (self.rank + 1) * stretches // self.world
        return min(n, first * stretch), min(n, last * stretch)

    def together(self, found: Iterable[Any]) -> list[Any]:
        """What all processes found, in the order of their shares."""
        import torch.distributed as dist

        lists: list[Any] = [None] * self.world
        dist.all_gather_object(lists, list(found))
        return [entry for part in lists for entry in part]

    def joined(self, rows: Tensor, folder: Path | None) -> Tensor:
        """The rows of all shares in order, for the first process; the others keep their own."""
        import torch
        import torch.distributed as dist

        sizes = self.together([tuple(rows.shape)])
        width = max(columns for _, columns in sizes)
        with tempfile.TemporaryDirectory(prefix=".share.", dir=folder) as own:
            places = self.together([own])
            if self.rank and len(rows):
                file = Path(places[0]) / str(self.rank)
                shared = torch.from_file(str(file), shared=True, size=rows.numel(), dtype=torch.float32)
                shared.copy_(rows.flatten())
                del shared
            dist.barrier()
            whole = self._collected(rows, sizes, width, Path(places[0]), folder) if not self.rank else rows
            dist.barrier()
        return whole

    def part(self) -> None:
        """Leave each other in order: a process that ends with its connections open may be aborted, not ended."""
        import torch.distributed as dist

        dist.barrier()
        dist.destroy_process_group()

    def _collected(
        self, own: Tensor, sizes: list[tuple[int, int]], width: int, place: Path, folder: Path | None
    ) -> Tensor:
        import torch

        whole = new_table(sum(n for n, _ in sizes), width, folder)
        # A small set is one stretch, which may be another's: no rows of its own have no width either.
        if len(own):
            whole[: len(own)] = own
        start = len(own)
        for rank, (n, _) in enumerate(sizes[1:], 1):
            if n:
                part = torch.from_file(str(place / str(rank)), shared=False, size=n * width, dtype=torch.float32)
                whole[start : start + n] = part.view(n, width)
            start += n
        return whole


def team() -> Team:
    """The processes this one was started with: those of torchrun, or none."""
    return Processes() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()


def alone() -> Alone:
    """What is not shared, the first process does; HelperDone in the others."""
    if int(os.environ.get("RANK", "0")) > 0:
        raise HelperDone
    return Alone()
