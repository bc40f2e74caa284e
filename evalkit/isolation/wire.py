"""Messages between parent and worker: four bytes of length, then JSON; read on the parent's side as from an enemy.

Never a pickle. A worker that was taken over may send anything: more bytes than agreed, none at all, deep nesting, NaN,
numbers of a million digits, half a surrogate pair. All of it ends in BadMessage.
"""

from __future__ import annotations

import json
import math
import re
import socket
import struct
import time
from typing import Any, NoReturn

DEEPEST = 24  # levels of nesting; evidence of honest witnesses has four
LARGEST = 2**53 - 1  # what every reader of JSON holds exactly (RFC 8259, section 6; RFC 8785, 3.2.2.3)


# Without any of these, what the standard decoder makes of numbers is exact and finite: no callback for each of them.
UNUSUAL = re.compile(rb"[0-9]{16}|[0-9][eE]|NaN|Infinity")

ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


class BadMessage(Exception):
    """What came is no message of ours."""


class Gone(Exception):
    """The other side has closed."""


def framed(message: Any, most: int | None = None) -> bytes:
    """One message as it is sent; ValueError when it is not strict JSON or over `most` bytes."""
    body = ENCODER.encode(message).encode("ascii")
    if most is not None and len(body) > most:
        raise ValueError(f"{len(body):,} bytes of JSON, at most {most:,}")
    return struct.pack(">I", len(body)) + body


def send(to: socket.socket, message: Any, most: int | None = None) -> None:
    """Send one message; ValueError as `framed`."""
    to.sendall(framed(message, most))


def send_many(to: socket.socket, messages: list[bytes]) -> None:
    """Send framed messages as one, which `receive_many` takes apart."""
    body = b"".join(messages)
    to.sendall(struct.pack(">I", len(body)) + body)


def receive(source: socket.socket, most: int, seconds: float | None = None) -> Any:
    """One message of at most `most` bytes within so many seconds; BadMessage, Gone or TimeoutError.

    Only for a side that waits for one message at a time: bytes behind it are a BadMessage.
    """
    return strict(_body(source, most, seconds))


def receive_many(source: socket.socket, most: int, count: int, seconds: float) -> list[Any]:
    """What `send_many` sent: 1 to `count` messages of at most `most` bytes each; raises as `receive`."""
    body = _body(source, count * (most + 4), seconds)
    found: list[Any] = []
    at = 0
    while at < len(body) and len(found) < count:
        length = _length(body[at : at + 4], most)
        found.append(strict(body[at + 4 : at + 4 + length]))
        at += 4 + length
    if at != len(body) or not found:
        raise BadMessage(f"no answers, or more than {count}")
    return found


def _body(source: socket.socket, most: int, seconds: float | None) -> bytes:
    deadline = None if seconds is None else time.monotonic() + seconds
    if source.gettimeout() != seconds:
        source.settimeout(seconds)
    # A short message comes in one piece, and then this is the only call.
    told = _some(source, 65536)
    while len(told) < 4 or len(told) < 4 + _length(told, most):
        # The clock runs for the message, not for each piece: bytes that trickle in do not stop it.
        if deadline is not None:
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            source.settimeout(left)
        told += _some(source, 65536)
    if len(told) > 4 + _length(told, most):
        raise BadMessage("more than one answer")
    return bytes(told[4:])


def _length(told: bytes | bytearray, most: int) -> int:
    length = int.from_bytes(told[:4], "big")
    if length > most:
        raise BadMessage(f"an answer of {length:,} bytes, at most {most:,}")
    return length


def _some(source: socket.socket, most: int) -> bytearray:
    try:
        part = source.recv(most)
    except ConnectionError as error:
        raise Gone from error
    if not part:
        raise Gone
    return bytearray(part)


def strict(body: bytes) -> Any:
    """JSON without NaN, infinities, lone surrogates or deep nesting; BadMessage otherwise."""
    try:
        decoder = DECODER if UNUSUAL.search(body) else QUICK
        found = decoder.decode(body.decode("utf-8", "backslashreplace"))
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"no JSON: {str(error)[:80]}") from error
    # Too few brackets to nest deeply and no escape that could be half a pair: nothing to clean.
    if b"\\u" not in body and body.count(b"[") + body.count(b"{") <= DEEPEST:
        return found
    return _cleaned(found, 0)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number out of range")
    return value


def _exact(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > LARGEST:
        raise ValueError("a number out of range")
    return int(digits)


DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, parse_int=_exact)
QUICK = json.JSONDecoder()


def _cleaned(found: Any, depth: int) -> Any:
    """The same with half surrogate pairs written out: they cannot be encoded as UTF-8 later on."""
    if depth > DEEPEST:
        raise BadMessage(f"more than {DEEPEST} levels of nesting")
    if isinstance(found, str):
        return found if found.isascii() else found.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(found, list):
        return [_cleaned(item, depth + 1) for item in found]
    if isinstance(found, dict):
        return {_cleaned(key, depth + 1): _cleaned(value, depth + 1) for key, value in found.items()}
    return found
