"""The store of an audit: what is frozen stays, what is acknowledged stays, and what is asked differently is refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.auditing import migrating
from evalkit.auditing.entries import Entry
from evalkit.auditing.queueing import Queue
from evalkit.auditing.store import DATABASE, Store, file_system, is_network, told, working_on
from evalkit.errors import BadRecord, BadSetting, RunFailed, UnwritableOutput
from tests.queued import CONFIGURATION, audit_of, drained, entries_of, folder_of

# audit.db as the first released schema wrote it, with one file of three and its finding.
GOLDEN = {
    1: """
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
CREATE INDEX files_content ON files (sha256) WHERE sha256 IS NOT NULL;
INSERT INTO meta VALUES ('configuration', '{"fdr": 0.05}'), ('frozen', '3');
INSERT INTO containers VALUES (0, x'2f696e');
INSERT INTO files VALUES
  (0, 'in/a', x'61', 0, 'file', 0, 0, 1, zeroblob(32), 'ok', NULL, NULL, 0),
  (1, 'in/\\xff', x'ff', 0, 'file', 0, 0, 1, zeroblob(32), 'ok', NULL, NULL, 0),
  (2, 'in/c', x'63', 0, 'file', 0, 0, 0, NULL, 'io_error', 'gone', NULL, NULL);
INSERT INTO batches VALUES (0, 0, 0, 1, 'done', NULL, NULL, 1);
INSERT INTO findings VALUES (0, '{"state":"ok"}');
PRAGMA application_id = 1702259521;
PRAGMA user_version = 1;
"""
}


# ---------------------------------------------------------------------------------------------- manifest


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 60), st.integers(3, 9))
def test_the_manifest_comes_back_and_its_batches_hold_each_content_once(
    tmp_path_factory: pytest.TempPathFactory, n: int, batch: int
) -> None:
    given_entries = list(entries_of(n))
    with Store(tmp_path_factory.mktemp("audit"), CONFIGURATION) as store:
        assert store.freeze(given_entries, batch) == n
        assert [entry for entry, _ in store.findings()] == given_entries
        contents = {e.sha256 for e in given_entries if e.sha256}
        sizes = drained(store)
        assert sizes == [batch] * (len(contents) // batch) + [len(contents) % batch] * (len(contents) % batch > 0)
        # Every copy has the document of the first of its content, and what could not be read has none.
        first: dict[str, int] = {}
        for entry, document in store.findings():
            expected = {"at": first.setdefault(entry.sha256, entry.position)} if entry.sha256 else None
            assert document == expected
        assert store.counts() == {"inputs": n, "contents": len(contents), "done": len(contents), "left": 0}


def test_a_unit_carries_its_copies_to_be_read_from(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", [b"a", b"b", b"a", b"a", b"a"])
    with audit_of(source, tmp_path / "out") as store:
        [a, b] = store.units(0, 9)
    assert ([c.position for c in a.copies], b.copies) == ([2, 3], ())


def test_a_manifest_is_frozen_once_and_a_listing_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Entry]:
        yield from entries_of(5000)
        raise KeyboardInterrupt

    with Store(tmp_path, CONFIGURATION) as store:
        with pytest.raises(KeyboardInterrupt):
            store.freeze(broken())
        assert not store.frozen and list(store.findings()) == []
        assert store.freeze(entries_of(10)) == 10
        with pytest.raises(RunFailed, match="frozen"):
            store.freeze(entries_of(10))


def test_names_of_any_bytes_and_lengths_of_any_size_are_kept(tmp_path: Path) -> None:
    odd = Entry(0, "x", bytes(range(256)), b"/\xff", size=2**70, packed=2**64, state="too_large", reason="huge")
    with Store(tmp_path, CONFIGURATION) as store:
        store.freeze([odd])
        [(back, _)] = store.findings()
    assert back == replace(odd, size=2**63 - 1, packed=2**63 - 1)


# ---------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fdr": 0.1}, "fdr = 0.05, now it is 0.1"),
        ({"limits": {"seconds": 9}, "zebra": 1}, "limits.seconds = 10, now it is 9"),
        ({"captions": "x.csv"}, 'captions = nothing, now it is "x.csv"'),
    ],
)
def test_another_configuration_is_refused_by_the_first_key_that_differs(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    Store(tmp_path, CONFIGURATION).db.close()
    with Store(tmp_path, dict(reversed(CONFIGURATION.items()))) as same:
        assert same.configuration == CONFIGURATION
    with pytest.raises(BadSetting) as refused:
        Store(tmp_path, {**CONFIGURATION, **change})
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_folder_without_an_audit_and_a_database_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match="holds no audit"):
        Store(tmp_path)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as db, db:
        db.execute("CREATE TABLE theirs (x)")
    with pytest.raises(BadRecord, match="something else"):
        Store(tmp_path, CONFIGURATION)
    (tmp_path / DATABASE).write_bytes(b"not a database" * 100)
    with pytest.raises(BadRecord, match="damaged"):
        Store(tmp_path, CONFIGURATION)


def test_two_processes_cannot_work_on_one_folder_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from evalkit.auditing.store import working_on\n"
        f"with working_on(Path({str(tmp_path)!r})): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(RunFailed, match=f"process {other.pid}"), working_on(tmp_path):
            pass
        other.kill()
    with working_on(tmp_path):
        pass


# ---------------------------------------------------------------------------------------------- migrations


@pytest.mark.parametrize("version", sorted(GOLDEN))
def test_a_database_of_every_released_schema_opens_with_all_that_was_in_it(tmp_path: Path, version: int) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as db:
        db.executescript(GOLDEN[version])
    with Store(tmp_path) as store:
        assert [(e.id, e.name, d) for e, d in store.findings()] == [
            ("in/a", b"a", {"state": "ok"}), ("in/\\xff", b"\xff", {"state": "ok"}), ("in/c", b"c", None),
        ]  # fmt: skip
        assert store.counts() == {"inputs": 3, "contents": 1, "done": 1, "left": 0} and store.frozen
    assert len(migrating.MIGRATIONS) == max(GOLDEN), "a new schema needs a golden database"


def test_migrations_run_in_order_leave_a_copy_and_stop_at_the_one_that_fails(tmp_path: Path) -> None:
    path = tmp_path / DATABASE
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(GOLDEN[1])
        scripts = (*migrating.MIGRATIONS, "ALTER TABLE meta ADD COLUMN more TEXT; UPDATE meta SET more = 'a;b';")
        migrating.migrate(path, db, scripts)
        assert db.execute("SELECT more FROM meta LIMIT 1").fetchone() == ("a;b",)
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        with pytest.raises(sqlite3.OperationalError):
            migrating.migrate(path, db, (*scripts, "UPDATE meta SET more = 'c'; UPDATE nothing SET x = 1;"))
        assert db.execute("SELECT more FROM meta LIMIT 1").fetchone() == ("a;b",)
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
    with closing(sqlite3.connect(tmp_path / f"{DATABASE}.v1")) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)
        assert copy.execute("SELECT count(*) FROM files").fetchone() == (3,)
    with pytest.raises(RunFailed, match=r"schema 2.*upgrade") as refused:
        Store(tmp_path)
    assert refused.value.exit_code == 3


# ---------------------------------------------------------------------------------------------- trouble


def test_network_file_systems_get_a_rollback_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = "\n".join(
        f"{i} 1 0:1 / {point} rw - {kind} dev rw"
        for i, (point, kind) in enumerate([("/", "ext4"), ("/mnt", "tmpfs"), ("/mnt/a\\040b", "nfs4"), ("/n", "xfs")])
    )
    kinds = {p: file_system(Path(p), mounts) for p in ("/x", "/mnt/a", "/mnt/a b/deep", "/mnt/a bc", "/n")}
    assert kinds == {"/x": "ext4", "/mnt/a": "tmpfs", "/mnt/a b/deep": "nfs4", "/mnt/a bc": "tmpfs", "/n": "xfs"}
    assert [k for k in ("nfs", "nfs4", "cifs", "fuse.sshfs", "ext4", "tmpfs", "overlay") if is_network(k)] == [
        "nfs", "nfs4", "cifs", "fuse.sshfs",
    ]  # fmt: skip
    for kind, journal in (("ext4", "wal"), ("nfs4", "delete")):
        monkeypatch.setattr("evalkit.auditing.store.file_system", lambda path, mounts, kind=kind: kind)
        with Store(tmp_path / kind, CONFIGURATION) as store:
            assert store.db.execute("PRAGMA journal_mode").fetchone() == (journal,)
            store.freeze(entries_of(9), 2)
            assert sum(drained(store)) == store.counts()["contents"]


def test_a_full_disk_a_lock_and_a_read_only_folder_are_one_line_and_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalkit.auditing.store.PATIENCE", 0.05)
    with Store(tmp_path, CONFIGURATION) as store, Store(tmp_path) as other:
        store.freeze(entries_of(300), 10)
        queue = Queue(store)
        first = queue.lease()
        assert first is not None and queue.acknowledge(first, [{}] * len(first.entries))
        pages = store.db.execute("PRAGMA page_count").fetchone()[0]
        store.db.execute(f"PRAGMA max_page_count = {pages}")
        second = queue.lease()
        assert second is not None
        with pytest.raises(RunFailed, match="full; make room"):
            queue.acknowledge(second, [{"long": "x" * 50_000}] * len(second.entries))
        store.db.execute("PRAGMA max_page_count = 100000")
        assert queue.acknowledge(second, [{}] * len(second.entries)) and store.counts()["done"] == 20
        with other.changing(), pytest.raises(RunFailed, match="locked by another program"):
            queue.lease()
        assert queue.lease() is not None
    with pytest.raises(UnwritableOutput, match="cannot write"), told(tmp_path / DATABASE):
        raise sqlite3.OperationalError("attempt to write a readonly database")
