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
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..errors import BadSetting, RunFailed, UnreadableSample
from ..types import Opened, State
from . import faults, kinds, replies, wire
from .hands import Died, Hand, Lost, Nursery
from .limits import Limits
from .opening import STAGES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from . import witnessing

    Media: TypeAlias = "npt.NDArray[np.uint8] | str"
else:
    Media = Any

# "media": pixels of an image, text of a text. "facts": the header alone; nothing is decoded, no witness asked.
Want: TypeAlias = Literal["media", "pixels", "text", "facts"]
WANTS: tuple[Want, ...] = ("media", "pixels", "text", "facts")
CLOSED = "the pool of isolated workers is closed; open files inside its `with` block"
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
        for _ in range(TRIES):
            with suppress(Lost):
                opened, media, was_used = self._attempt(data, want)
                if opened.state in ("crash", "oom") and was_used:
                    opened, media, _ = self._attempt(data, want, fresh=True)
                return opened, media
            self._revive()
        raise RunFailed(
            "the process that opens untrusted files was lost again and again; is the machine out of memory?"
        )

    def open_many(
        self, reads: Iterable[Callable[[], bytes]], want: Want = "media"
    ) -> Iterator[tuple[Opened, Media | None]]:
        """Open each file in order; at most two files a worker are held at once.

        reads: each gives the bytes of one file. Whatever it raises is that file's io_error.
        """
        waiting: deque[Future[tuple[Opened, Media | None]]] = deque()
        threads = ThreadPoolExecutor(self.workers, thread_name_prefix="isolation")
        try:
            for read in reads:
                waiting.append(threads.submit(self._read, read, want))
                if len(waiting) >= 2 * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)

    def _read(self, read: Callable[[], bytes], want: Want) -> tuple[Opened, Media | None]:
        try:
            data = read()
        except MemoryError:
            return Opened("oom", "read", "no memory for the bytes of the file"), None
        except UnreadableSample as error:
            return Opened("io_error", "read", str(error)), None
        except Exception as error:
            return Opened("io_error", "read", f"{type(error).__name__}: {error}"[: faults.LONGEST]), None
        return self.open(data, want)

    def _attempt(self, data: bytes, want: Want, fresh: bool = False) -> tuple[Opened, Media | None, bool]:
        """Open in one worker; whether that worker had opened others before. Lost when the server is gone."""
        self._permits.get()
        hand = self._waiting()
        try:
            if hand is not None and (fresh or hand.files >= self.limits.recycle_after):
                self._drop(hand)
                hand = None
            if hand is None:
                hand = self._hand()
            was_used = hand.files > 0
            opened, media = self._ask(hand, data, want)
            if opened.state in ("crash", "timeout", "oom"):
                self._drop(hand)
                hand = None
            return opened, media, was_used
        except BaseException:
            # Ctrl-C in the middle of an answer: what comes next on that line would be of this file.
            if hand is not None:
                self._drop(hand)
                hand = None
            raise
        finally:
            if hand is not None:
                self._idle.append(hand)
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

    def _ask(self, hand: Hand, data: bytes, want: Want) -> tuple[Opened, Media | None]:
        try:
            answer = hand.ask(data, want)
            opened = replies.opened_of(answer, self.limits)
            media = self._fetch(hand, answer, opened)
            hand.tidy()
            return opened, media
        except TimeoutError:
            return self._ended(hand, data, "timeout", f"more than {self.limits.wall_seconds:g} s"), None
        except wire.BadMessage as error:
            return self._ended(hand, data, "crash", f"the worker broke the protocol: {error}"), None
        except Died as died:
            return self._ended(hand, data, *_death(died.status, self.limits)), None

    def _fetch(self, hand: Hand, answer: Mapping[str, Any], opened: Opened) -> Media | None:
        if (shape := replies.shape_of(answer, opened, self.limits)) is not None:
            import numpy as np

            pixels = np.empty(shape, np.uint8)
            hand.read(pixels.reshape(-1).data)
            return pixels
        if (size := replies.text_size(answer, opened, self.limits)) is not None:
            encoded = bytearray(size)
            hand.read(memoryview(encoded))
            try:
                return encoded.decode("utf-8")
            except UnicodeDecodeError as error:
                raise wire.BadMessage("a text that is not UTF-8") from error
        return None

    def _ended(self, hand: Hand, data: bytes, state: State, reason: str) -> Opened:
        """A file that its worker did not survive: the parent says what it can of it without decoding."""
        if self._nest is None:
            raise RunFailed(CLOSED)
        stage, witness = hand.noted()
        names = list(self.witnesses)
        where = STAGES[stage] if stage < len(STAGES) else "decode"
        if where == "witness" and 0 < witness <= len(names):
            reason = f"{reason}, in witness {names[witness - 1]}"
        kind = kinds.sniff(data[: kinds.HEAD])
        pillow = self.decoders.get("Pillow", "")
        decoder = f"Pillow {pillow} / {kind.format}" if kind.format not in ("", kinds.TEXT) else ""
        return Opened(state, where, reason, decoder, kind.format)

    def _hand(self) -> Hand:
        nest = self._nest
        if nest is None:
            raise RunFailed(CLOSED)
        try:
            hand = Hand(nest, self.limits)
        except (Died, TimeoutError, wire.BadMessage) as error:
            raise RunFailed(f"an isolated worker did not start: {_why(error, self.limits)}") from error
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


def _death(status: int, limits: Limits) -> tuple[State, str]:
    """State and words of a wait status."""
    if not os.WIFSIGNALED(status):
        return "crash", f"the worker ended by itself (exit status {os.WEXITSTATUS(status)})"
    name = signal.Signals(os.WTERMSIG(status)).name
    if name == "SIGXCPU":
        return "timeout", f"more than {limits.cpu_seconds} s of processor time"
    return "crash", f"the worker was killed by {name}"


def _why(error: Exception, limits: Limits) -> str:
    return _death(error.status, limits)[1] if isinstance(error, Died) else str(error) or "it did not answer in time"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
