"""What one untrusted file may cost: bytes, pixels, seconds, memory; and where it lies in the memory that is shared.

Defaults: 64 megapixels are 192 MB of RGB; ten seconds are a hundred times what the slowest honest file of that size
takes; 1 GiB holds a file, its pixels as Pillow keeps them (4 bytes a pixel) and its pixels as they are given back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import BadSetting

MiB = 2**20
# A request of several files is answered early once these are used up, so that it is neither long nor large.
TOGETHER_OUT = 8 * MiB  # bytes of pixels and texts given back
TOGETHER_SECONDS = 0.25


@dataclass(frozen=True)
class Limits:
    """The budget of one file in one worker; BadSetting when a number is not positive.

    address_space: bytes a worker may map beyond its own code, the memory shared with the parent included (RLIMIT_AS).
    cpu_seconds: of processor time a file (RLIMIT_CPU). wall_seconds: a file, watched by the parent. most_bytes: of the
    file. most_pixels: width x height x frames, from the header. most_frames: of an animation or a multi-page file.
    most_characters: of a text. most_chunk: bytes of one piece of metadata as stored (PNG text, ICC profile).
    most_reply: bytes of JSON a worker may answer with. open_files: RLIMIT_NOFILE. recycle_after: files until a worker
    is replaced. start_seconds: for a worker to make its witnesses ready.
    """

    address_space: int = 1024 * MiB
    cpu_seconds: int = 10
    wall_seconds: float = 10.0
    most_bytes: int = 256 * MiB
    most_pixels: int = 64_000_000
    most_frames: int = 4096
    most_characters: int = 16_000_000
    most_chunk: int = 16 * MiB
    most_reply: int = MiB
    open_files: int = 64
    recycle_after: int = 1000
    start_seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**48:
                raise BadSetting(f"limit {field.name} is {value!r}, expected a positive number")

    @property
    def out(self) -> int:
        """Where in the shared memory a worker writes what it gives back: behind the bytes of the file."""
        return self.most_bytes

    @property
    def largest(self) -> int:
        """Bytes that one file may give back."""
        return max(3 * self.most_pixels, 4 * self.most_characters)

    @property
    def progress(self) -> int:
        """Where in the shared memory a worker notes its stage, its witness and the file of its request; a byte each."""
        return self.out + TOGETHER_OUT + self.largest

    @property
    def together_seconds(self) -> float:
        """Seconds after which no other file of the same request is begun."""
        return min(TOGETHER_SECONDS, self.wall_seconds / 8)

    @property
    def shared(self) -> int:
        """Bytes of the shared memory of one worker; only pages that were touched take memory."""
        return self.progress + 3

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
