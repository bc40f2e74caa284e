"""A study in one SQLite file: its design and stimuli, its raters, and every answer that was ever given.

Answers are only ever added, which triggers guard: a changed answer is a new row, and the first of a trial counts. WAL
with `synchronous=FULL`, one transaction an answer: what was acknowledged survives a kill and a power cut. The file
holds the key (which sample is real), and no path, address or other data of a rater than the name they chose.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..cache import beside
from ..errors import BadRecord, UnwritableOutput
from ..types import Modality
from .designing import Design, Item, Mode
from .stimuli import Stimulus

VERSION = 1  # user_version of the file
OLDEST = (3, 37, 0)  # the first SQLite with STRICT tables

SCHEMA = """
CREATE TABLE study (id INTEGER PRIMARY KEY CHECK (id = 1), terms TEXT NOT NULL, secret BLOB NOT NULL) STRICT;
CREATE TABLE stimuli (stimulus INTEGER PRIMARY KEY, "set" TEXT NOT NULL, sample TEXT NOT NULL, digest TEXT NOT NULL,
  width INTEGER NOT NULL, height INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE items (item INTEGER PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('judged', 'catch', 'repeat')),
  first INTEGER NOT NULL REFERENCES stimuli, second INTEGER REFERENCES stimuli,
  repeats INTEGER REFERENCES items) STRICT;
CREATE TABLE raters (rater INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, sheet TEXT NOT NULL,
  began REAL NOT NULL) STRICT;
CREATE TABLE answers (answer INTEGER PRIMARY KEY AUTOINCREMENT, rater INTEGER NOT NULL REFERENCES raters,
  item INTEGER NOT NULL REFERENCES items, position INTEGER NOT NULL, flipped INTEGER NOT NULL,
  choice TEXT NOT NULL CHECK (choice IN ('real', 'fake', 'first', 'second')),
  confidence INTEGER CHECK (confidence BETWEEN 1 AND 4), client_ms REAL, server_ms REAL, at REAL NOT NULL,
  nonce TEXT NOT NULL, UNIQUE (rater, nonce)) STRICT;
CREATE INDEX answers_of_item ON answers (rater, item);
CREATE TRIGGER answers_stay BEFORE UPDATE ON answers BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
CREATE TRIGGER answers_remain BEFORE DELETE ON answers BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
"""

Choice = Literal["real", "fake", "first", "second"]


@dataclass(frozen=True)
class Group:
    """One set of a study as it was given; the real one has the role "real"."""

    name: str
    role: str
    source: str
    n: int
    digest: str


@dataclass(frozen=True)
class Terms:
    """What a study is: equal terms, same study. `page` is what its numbers are called after, human@<page>."""

    page: str
    mode: Mode
    modality: Modality
    seed: int
    items: int
    catch: float
    sets: tuple[Group, ...]
    words: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """One answer; `choice` of a pair names the stimulus of the item, wherever it stood. Times in milliseconds."""

    item: int
    position: int
    flipped: bool
    choice: Choice
    confidence: int | None
    client_ms: float | None
    server_ms: float | None
    nonce: str


@dataclass(frozen=True)
class Rater:
    """A rater and the answers that count, by item: the first that was given."""

    number: int
    name: str
    sheet: str
    answers: Mapping[int, Answer]
    changed: int


def create(path: Path, terms: Terms, made: Design) -> None:
    """Write a new study file whole or not at all; UnwritableOutput when it cannot be written or is there already."""
    check_sqlite()
    if path.exists():
        raise UnwritableOutput(f"{path} exists already; give another --out")
    try:
        with beside(path) as draft, closing(sqlite3.connect(draft)) as db, db:
            db.executescript(SCHEMA)
            db.execute(f"PRAGMA user_version = {VERSION}")
            body = {**vars(terms), "sets": [vars(group) for group in terms.sets]}
            db.execute("INSERT INTO study VALUES (1, ?, ?)", (json.dumps(body), secrets.token_bytes(32)))
            db.executemany(
                "INSERT INTO stimuli VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (i, _text(s.set), _text(s.sample), s.digest, s.width, s.height, zlib.compress(s.body, 6))
                    for i, s in enumerate(made.stimuli)
                ),
            )
            db.executemany(
                "INSERT INTO items VALUES (?, ?, ?, ?, ?)",
                ((i, t.kind, t.stimuli[0], [*t.stimuli, None][1], t.of) for i, t in enumerate(made.items)),
            )
    except (OSError, sqlite3.Error) as error:
        raise UnwritableOutput(f"cannot write the study {path}: {error}; choose another --out") from error


def _text(name: str) -> str:
    """A name that SQLite can hold: bytes that are no UTF-8 as backslash escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def check_sqlite() -> None:
    """Raise UnwritableOutput when this Python's SQLite has no STRICT tables."""
    if sqlite3.sqlite_version_info < OLDEST:
        raise UnwritableOutput(f"SQLite {sqlite3.sqlite_version} has no STRICT tables; 3.37 or newer is needed")


class Store:
    """An open study file; safe to use from several threads. Raises BadRecord when the file is not a study."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        if not path.is_file():
            raise BadRecord(f"no study {str(path)!r}; expected the .sqlite file that evalkit judge wrote")
        check_sqlite()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            # A file from elsewhere must not run anything by being opened.
            self._db.execute("PRAGMA trusted_schema = OFF")
            self._db.execute("PRAGMA foreign_keys = ON")
            [(version,)] = self._db.execute("PRAGMA user_version")
            if version != VERSION:
                raise BadRecord(f"{path} is a study of version {version}; this evalkit reads version {VERSION}")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self.terms, self.secret = self._read_terms()
            self.items, self.sets = self._read_items()
        except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
            raise BadRecord(f"{path} is not a study of evalkit judge: {error}") from error

    def close(self) -> None:
        """Close the file; what was acknowledged is in it already."""
        with self._lock:
            self._db.close()

    def _read_terms(self) -> tuple[Terms, bytes]:
        [(text, secret)] = self._db.execute("SELECT terms, secret FROM study")
        body = json.loads(text)
        groups = tuple(Group(**group) for group in body.pop("sets"))
        return Terms(**{**body, "sets": groups, "notes": tuple(body["notes"])}), bytes(secret)

    def _read_items(self) -> tuple[tuple[Item, ...], tuple[str, ...]]:
        rows = list(self._db.execute("SELECT kind, first, second, repeats FROM items ORDER BY item"))
        items = tuple(Item(kind, (a,) if b is None else (a, b), of) for kind, a, b, of in rows)
        sets = tuple(str(name) for (name,) in self._db.execute('SELECT "set" FROM stimuli ORDER BY stimulus'))
        return items, sets

    def stimulus(self, number: int) -> Stimulus:
        """One stimulus with its pixels or text; KeyError when there is none of that number."""
        with self._lock:
            row = self._db.execute("SELECT * FROM stimuli WHERE stimulus = ?", (number,)).fetchone()
        if row is None:
            raise KeyError(number)
        _, name, sample, digest, width, height, body = row
        most = 3 * width * height if width else 16 * 1024
        unpacked = zlib.decompressobj().decompress(body, most)
        return Stimulus(name, sample, digest, width, height, unpacked)

    def rater(self, name: str, sheet: str | None = None) -> Rater:
        """The rater of that name, added with a sheet of their own when there is none yet."""
        with self._changing() as db:
            db.execute(
                "INSERT INTO raters (name, sheet, began) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING",
                (name, name if sheet is None else sheet, time.time()),
            )
        return next(r for r in self.raters() if r.name == name)

    def raters(self) -> tuple[Rater, ...]:
        """Every rater with the answers that count, in the order in which they began."""
        with self._lock:
            rows = list(self._db.execute("SELECT rater, name, sheet FROM raters ORDER BY rater"))
            given = list(
                self._db.execute(
                    "SELECT rater, item, position, flipped, choice, confidence, client_ms, server_ms, nonce"
                    " FROM answers ORDER BY answer"
                )
            )
        counted: dict[int, dict[int, Answer]] = {number: {} for number, _, _ in rows}
        changed = dict.fromkeys(counted, 0)
        for number, item, position, flipped, *rest in given:
            if item in counted[number]:
                changed[number] += 1
            else:
                counted[number][item] = Answer(item, position, bool(flipped), *rest)
        return tuple(Rater(number, name, sheet, counted[number], changed[number]) for number, name, sheet in rows)

    def add(self, rater: int, answers: Sequence[Answer]) -> int:
        """Keep answers, all or none; one whose nonce is there already is the same post again. Returns how many."""
        with self._changing() as db:
            before = db.total_changes
            db.executemany(
                "INSERT INTO answers (rater, item, position, flipped, choice, confidence, client_ms, server_ms, at,"
                " nonce) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (rater, nonce) DO NOTHING",
                [
                    (rater, a.item, a.position, int(a.flipped), a.choice, a.confidence, *times, time.time(), a.nonce)
                    for a, times in ((a, (a.client_ms, a.server_ms)) for a in answers)
                ],
            )
            return db.total_changes - before

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; it is on the disk when the block has ended."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
