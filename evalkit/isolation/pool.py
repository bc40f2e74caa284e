"""The door to isolated decoding: a pool of workers, one file at a time each, whose deaths cost one file.

    with Pool(workers=4, witnesses=[("provenance", {})]) as pool:
        opened, media = pool.open(data)

A worker gets one file at a time, so the one that kills it is known and nothing has to be bisected. A file that ends in
`crash` or `oom` in a worker which had opened others before is opened once more in a fresh one, and that counts: what
becomes of a file depends on the file and the configuration, not on what was opened before it.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..errors import BadSetting, RunFailed, UnreadableSample
from ..types import Opened
from . import endings, faults, replies, wire
from .hands import Died, Hand, Lost, Nursery
from .limits import Limits

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from . import witnessing

    Media: TypeAlias = "npt.NDArray[np.uint8] | str"
else:
    Media = Any

# "media": pixels of an image, text of a text. "facts": the header alone; nothing is decoded, no witness asked.
Want: TypeAlias = Literal["media", "pixels", "text", "facts"]
Result: TypeAlias = tuple[Opened, "Media | None"]
WANTS: tuple[Want, ...] = ("media", "pixels", "text", "facts")
CLOSED = "the pool of isolated workers is closed; open files inside its `with` block"
MOST_TOGETHER = 255  # files a request: a worker notes which of them it is at in one byte
SMALL = 4 << 20  # bytes of files that are handed over together; larger files are, each by itself
DONE_FOR = ("crash", "timeout", "oom")  # a worker is not used again after these
TRIES = 3  # times the fork server may be lost under one file, which is never that file's doing


class Pool:
    """Workers that open untrusted bytes. `workers`: default one a core. `witnesses`: (name, settings) of the registry.

    hashes: perceptual hashes of each image too. A name "package.module:Class" is a witness that no registry knows. Used
    from any number of threads; a thread waits for a free worker. Raises what a witness raises when it is made, as
    RunFailed, and BadSetting for settings that cannot be.
    """

    def __init__(
        self,
        workers: int | None = None,
        limits: Limits | None = None,
        witnesses: witnessing.Wanted = (),
        hashes: bool = True,
    ) -> None:
        self.workers = _cores() if workers is None else workers
        if self.workers < 1:
            raise BadSetting(f"{self.workers} workers, expected at least one")
        self.limits = limits or Limits()
        self._plan = (self.limits, tuple(witnesses), hashes)
        self._small = min(SMALL, self.limits.most_bytes)
        # As many permits as workers, and the workers that wait: the one that worked last works next, so that no more
        # are started than are needed.
        self._permits: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._idle: list[Hand] = []
        self._lock = threading.Lock()
        self._hands: set[Hand] = set()
        self._nest: Nursery | None = None
        self._hello: Mapping[str, Any] = {}

    def __enter__(self) -> Pool:
        self._nest = Nursery(*self._plan)
        try:
            first = self._hand()
        except BaseException:
            self.close()
            raise
        self._hello = first.hello
        self._idle.append(first)
        for _ in range(self.workers):
            self._permits.put(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the workers and the server; a thread that waits for a file gets RunFailed."""
        with self._lock:
            nest, self._nest = self._nest, None
            hands, self._hands = set(self._hands), set()
        if nest is not None:
            nest.close()
        for hand in hands:
            hand.close()

    @property
    def protections(self) -> tuple[str, ...]:
        """What is in force against a worker that was taken over, and what is not, in plain words."""
        nest = self._nest
        return (*(nest.in_force if nest else ()), *(str(words) for words in self._hello.get("in_force", ())))

    @property
    def witnesses(self) -> Mapping[str, str]:
        """Digest of each witness by its name, as the witnesses themselves tell it in a worker."""
        return {str(name): str(digest) for name, digest in self._hello.get("witnesses", {}).items()}

    @property
    def decoders(self) -> Mapping[str, str]:
        """Version of each decoder and of the libraries behind it, by name."""
        return {str(name): str(version) for name, version in self._hello.get("decoders", {}).items()}

    def open(self, data: bytes, want: Want = "media") -> tuple[Opened, Media | None]:
        """How the reading of these bytes ended, and what is wanted of them; raises nothing on their account.

        Pixels: uint8 [H, W, 3], owned by the caller, as `samples` decodes them. Text: str. None when the file has
        none of the kind wanted, or ended in any other state than ok and ok_with_warning. RunFailed when no worker can
        be had.
        """
        if want not in WANTS:
            raise BadSetting(f"want is {want!r}, expected one of {', '.join(WANTS)}")
        if len(data) > self.limits.most_bytes:
            return Opened("too_large", "read", f"{len(data):,} bytes, at most {self.limits.most_bytes:,}"), None
        return self._surely(data, want)

    def open_many(
        self, reads: Iterable[Callable[[], bytes]], want: Want = "media", together: int = 1
    ) -> Iterator[tuple[Opened, Media | None]]:
        """Open each file in order; at most 2 x together files a worker are held at once.

        reads: each gives the bytes of one file. Whatever it raises is that file's io_error. together: small files
        that a worker is handed at once, 1 to 255. Above 1 it is faster, and a decoder that is taken over can lie about
        the other files of its request too; how each file ends stays the same. BadSetting for another number.
        """
        if not 1 <= together <= MOST_TOGETHER:
            raise BadSetting(f"together is {together!r}, expected 1 to {MOST_TOGETHER}")
        waiting: deque[Future[list[Result]]] = deque()
        threads = ThreadPoolExecutor(self.workers, thread_name_prefix="isolation")
        source = iter(reads)
        try:
            while some := list(islice(source, together)):
                waiting.append(threads.submit(self._read, some, want))
                if len(waiting) >= 2 * self.workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)

    def _read(self, reads: Sequence[Callable[[], bytes]], want: Want) -> list[Result]:
        found: list[Result] = []
        small: list[bytes] = []
        for read in reads:
            data = _bytes_of(read)
            if isinstance(data, bytes) and sum(map(len, small)) + len(data) <= self._small:
                small.append(data)
                continue
            found += self._together(small, want)
            found.append((data, None) if isinstance(data, Opened) else self.open(data, want))
            small = []
        return found + self._together(small, want)

    def _together(self, files: Sequence[bytes], want: Want) -> list[Result]:
        """Open small files in as few requests as it takes."""
        found: list[Result] = []
        while len(files) - len(found) > 1:
            found += self._some(files[len(found) :], want)
        return found + [self.open(data, want) for data in files[len(found) :]]

    def _some(self, files: Sequence[bytes], want: Want) -> list[Result]:
        """The first of the files, one at least, by one request; by others as well where its worker did not survive."""
        with suppress(Lost):
            found, bad = self._attempt_many(files, want)
            if bad is not None:
                # Those before it were done, but their answers are lost; those behind it are the caller's next request.
                found = [*self._together(files[: bad[0]], want), (bad[1], None)]
            return [
                self._surely(data, want, fresh=True) if result[0].state in ("crash", "oom") else result
                for data, result in zip(files, found, strict=False)
            ]
        self._revive()
        return [self.open(files[0], want)]

    def _surely(self, data: bytes, want: Want, fresh: bool = False) -> Result:
        """Open one file, again where the fork server was lost or a used worker did not survive it."""
        for _ in range(TRIES):
            with suppress(Lost):
                opened, media, was_used = self._attempt(data, want, fresh)
                if opened.state in ("crash", "oom") and was_used:
                    opened, media, _ = self._attempt(data, want, fresh=True)
                return opened, media
            self._revive()
        raise RunFailed(
            "the process that opens untrusted files was lost again and again; is the machine out of memory?"
        )

    def _attempt(self, data: bytes, want: Want, fresh: bool = False) -> tuple[Opened, Media | None, bool]:
        """Open in one worker; whether that worker had opened others before. Lost when the server is gone."""
        with self._worker(fresh) as hand:
            was_used = hand.files > 0
            try:
                answer = hand.ask(data, want)
                opened = replies.opened_of(answer, self.limits)
                media, _ = self._fetch(hand, answer, opened)
                hand.tidy()
            except (TimeoutError, wire.BadMessage, Died) as error:
                opened, media = self._ended(hand, [data], error)[1], None
            if opened.state in DONE_FOR:
                self._drop(hand)
            return opened, media, was_used

    def _attempt_many(self, files: Sequence[bytes], want: Want) -> tuple[list[Result], tuple[int, Opened] | None]:
        """Open the first of the files in one worker; else nothing, and which of them it did not survive and how."""
        with self._worker() as hand:
            try:
                found: list[Result] = []
                at = 0
                for answer in hand.ask_many(files, want):
                    opened = replies.opened_of(answer, self.limits)
                    media, size = self._fetch(hand, answer, opened, at)
                    found.append((opened, media))
                    at += size
                hand.tidy()
            except (TimeoutError, wire.BadMessage, Died) as error:
                bad = self._ended(hand, files, error)
                self._drop(hand)
                return [], bad
            if any(opened.state in DONE_FOR for opened, _ in found):
                self._drop(hand)
            return found, None

    @contextmanager
    def _worker(self, fresh: bool = False) -> Iterator[Hand]:
        """A worker for the block alone; kept for the next unless the block dropped it. Waits until one is free."""
        self._permits.get()
        try:
            hand = self._waiting()
            if hand is not None and (fresh or hand.files >= self.limits.recycle_after):
                self._drop(hand)
                hand = None
            if hand is None:
                hand = self._hand()
            try:
                yield hand
            except BaseException:
                # Ctrl-C in the middle of an answer: what comes next on that line would be of this file.
                self._drop(hand)
                raise
            if hand in self._hands:
                self._idle.append(hand)
        finally:
            self._permits.put(None)

    def _waiting(self) -> Hand | None:
        """A worker that has nothing to do; those of a fork server that is gone are put away."""
        while True:
            try:
                hand = self._idle.pop()
            except IndexError:
                return None
            if hand.nest is self._nest:
                return hand
            self._drop(hand)

    def _fetch(self, hand: Hand, answer: Mapping[str, Any], opened: Opened, at: int = 0) -> tuple[Media | None, int]:
        """What is wanted of a file, which lies `at` so many bytes behind the first, and how many bytes it takes."""
        if (shape := replies.shape_of(answer, opened, self.limits)) is not None:
            import numpy as np

            pixels = np.empty(shape, np.uint8)
            hand.read(pixels.reshape(-1).data, at)
            return pixels, pixels.nbytes
        if (size := replies.text_size(answer, opened, self.limits)) is not None:
            encoded = bytearray(size)
            hand.read(memoryview(encoded), at)
            try:
                return encoded.decode("utf-8"), size
            except UnicodeDecodeError as error:
                raise wire.BadMessage("a text that is not UTF-8") from error
        return None, 0

    def _ended(self, hand: Hand, files: Sequence[bytes], error: Exception) -> tuple[int, Opened]:
        """Which file its worker did not survive, and what the parent can say of it without decoding."""
        if self._nest is None:
            raise RunFailed(CLOSED)
        return endings.ended(error, hand.noted(), files, self.limits, self._hello)

    def _hand(self) -> Hand:
        nest = self._nest
        if nest is None:
            raise RunFailed(CLOSED)
        try:
            hand = Hand(nest, self.limits)
        except (Died, TimeoutError, wire.BadMessage) as error:
            raise RunFailed(f"an isolated worker did not start: {endings.why(error, self.limits)}") from error
        if "failed" in hand.hello:
            hand.close()
            raise RunFailed(f"a witness cannot be made ready: {hand.hello['failed']!s}")
        with self._lock:
            self._hands.add(hand)
        return hand

    def _drop(self, hand: Hand) -> None:
        with self._lock:
            self._hands.discard(hand)
        hand.close()

    def _revive(self) -> None:
        """A new fork server in place of one that was killed; another thread may have done it already."""
        with self._lock:
            if self._nest is None or self._nest.alive():
                return
            self._nest.close()
            self._nest = Nursery(*self._plan)


def _bytes_of(read: Callable[[], bytes]) -> bytes | Opened:
    """The bytes of a file, or the state of one that has none."""
    try:
        return read()
    except MemoryError:
        return Opened("oom", "read", "no memory for the bytes of the file")
    except UnreadableSample as error:
        return Opened("io_error", "read", str(error))
    except Exception as error:
        return Opened("io_error", "read", f"{type(error).__name__}: {error}"[: faults.LONGEST])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
