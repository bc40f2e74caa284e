"""The schema of audit.db and the way to it: numbered scripts, forwards only, a copy before the first that changes data.

`PRAGMA user_version` holds the number of scripts that a database has been through. A database of a later evalkit is
refused: an earlier one cannot know what it would overlook. The unit of work is (content, task), where the task is the
frozen configuration of the folder, of which there is one; a batch is a stretch of positions, and the units in it are
the positions that are the first of their content.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ..cache import beside
from ..errors import BadRecord, RunFailed

APPLICATION = 0x65766B41  # "evkA", PRAGMA application_id

MIGRATIONS: tuple[str, ...] = (
    """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE containers (container INTEGER PRIMARY KEY, place BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE files (position INTEGER PRIMARY KEY, id TEXT NOT NULL, name BLOB NOT NULL,
  container INTEGER NOT NULL REFERENCES containers,
  packing TEXT NOT NULL CHECK (packing IN ('file', 'range', 'deflate', 'gzip')), "offset" INTEGER NOT NULL,
  packed INTEGER NOT NULL, size INTEGER NOT NULL, sha256 BLOB CHECK (length(sha256) = 32), state TEXT NOT NULL,
  reason TEXT, caption TEXT, first INTEGER,
  CHECK ((sha256 IS NULL) = (first IS NULL)), CHECK ((sha256 IS NULL) = (reason IS NOT NULL))) STRICT;
CREATE TABLE batches (batch INTEGER PRIMARY KEY, low INTEGER NOT NULL, high INTEGER NOT NULL, units INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'leased', 'done', 'split')), owner TEXT, lease_until REAL,
  attempts INTEGER NOT NULL) STRICT;
CREATE INDEX batches_open ON batches (batch) WHERE state IN ('pending', 'leased');
CREATE TABLE findings (position INTEGER PRIMARY KEY REFERENCES files, document TEXT NOT NULL) STRICT;
""",
)


def migrate(path: Path, db: sqlite3.Connection, scripts: Sequence[str] = MIGRATIONS) -> None:
    """Bring an open database to the last schema, one transaction a script; a copy is left beside it as NAME.vN.

    Raises RunFailed for a database of a later schema, BadRecord for a database that is not an audit's.
    """
    version = _version(path, db)
    if version > len(scripts):
        raise RunFailed(
            f"{path} has schema {version}, this evalkit knows {len(scripts)}; upgrade evalkit, or begin another audit"
        )
    if 0 < version < len(scripts):
        _copy(db, path.with_name(f"{path.name}.v{version}"))
    for number in range(version, len(scripts)):
        # Its own transaction, so that a kill leaves a schema that has a number.
        db.execute("BEGIN IMMEDIATE")
        try:
            if _version(path, db) == number:
                for statement in _statements(scripts[number]):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION}")
                db.execute(f"PRAGMA user_version = {number + 1}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise


def _version(path: Path, db: sqlite3.Connection) -> int:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    application = int(db.execute("PRAGMA application_id").fetchone()[0])
    tables = int(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if application not in (0, APPLICATION) or (application == 0 and tables):
        raise BadRecord(f"{path} is a database of something else; expected an audit's; give another --out")
    return version


def _statements(script: str) -> list[str]:
    """The statements of a script; `executescript` would commit between them."""
    found, rest = [], ""
    for piece in script.split(";"):
        rest += piece + ";"
        if sqlite3.complete_statement(rest):
            found.append(rest)
            rest = ""
    return [s for s in found if s.strip(" \n;")]


def _copy(db: sqlite3.Connection, place: Path) -> None:
    """The whole database as it is, at `place`; an earlier copy is replaced."""
    with beside(place) as draft, closing(sqlite3.connect(draft)) as copy:
        db.backup(copy)
