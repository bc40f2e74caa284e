"""The queue of an audit: leases of the living and the dead, batches that kill, and kills at any point."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from evalkit.auditing.manifest import listed
from evalkit.auditing.queueing import LEASE, MOST_ATTEMPTS, Heartbeat, Queue, is_gone, owner_name
from evalkit.auditing.store import Store
from evalkit.errors import RunFailed
from tests.queued import CONFIGURATION, entries_of, folder_of


def test_a_lease_is_given_once_renewed_run_out_and_acknowledged_only_by_its_owner(tmp_path: Path) -> None:
    now = [1000.0]
    with Store(tmp_path, CONFIGURATION) as store:
        store.freeze(entries_of(40), 20)
        ann, bob = (Queue(store, f"{name}/b/1/2/0", lambda: now[0]) for name in ("ann", "bob"))
        a, b = ann.lease(), bob.lease()
        assert a is not None and b is not None and (a.batch, b.batch) == (0, 1) and ann.lease() is None
        now[0] += LEASE - 1
        assert ann.renew(a) and ann.lease() is None
        now[0] += 2  # Bob's has run out, Ann's has not.
        again = ann.lease()
        assert again is not None and (again.batch, again.attempts) == (b.batch, 2) and again.entries == b.entries
        assert not bob.renew(b) and not bob.acknowledge(b, [{"by": "bob"}] * len(b.entries))
        assert ann.acknowledge(again, [{"by": "ann"}] * len(b.entries))
        assert not ann.acknowledge(again, [{"by": "twice"}] * len(b.entries)) and not ann.release(again)
        with pytest.raises(RunFailed, match="20 contents, 1 documents"):
            ann.acknowledge(a, [{}])
        now[0] -= 3 * LEASE  # The clock jumps back: the lease lies further ahead than one can be given.
        back = bob.lease()
        assert back is not None and back.batch == a.batch
        assert bob.release(back) and bob.held() is None
        last = bob.lease()
        assert last is not None and last.attempts == back.attempts  # What was given back was no attempt.
        said = {d["by"] for _, d in store.findings() if d is not None}
        assert said == {"ann"}


def test_the_dead_of_this_machine_lose_their_leases_at_once_and_the_living_do_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        machine, boot, _, started, _ = owner_name().split("/")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as dying:
        dying.kill()
        os.waitid(os.P_PID, dying.pid, os.WEXITED | os.WNOWAIT)  # Dead, and nobody has collected it yet.
        ticks = Path(f"/proc/{dying.pid}/stat").read_text().rpartition(")")[2].split()[19]
        assert is_gone(f"{machine}/{boot}/{dying.pid}/{ticks}/0")
    assert not is_gone(owner_name()) and not is_gone(f"elsewhere/{boot}/{child.pid}/{started}/0")
    assert is_gone(f"{machine}/{boot}/{child.pid}/{started}/0")
    assert is_gone(f"{machine}/earlier/{os.getpid()}/{started}/0")
    assert is_gone(f"{machine}/{boot}/{os.getpid()}/1/0")  # The number of a process that began at another time.
    with Store(tmp_path, CONFIGURATION) as store:
        store.freeze(entries_of(40), 10)
        owners = [f"{machine}/{boot}/{child.pid}/{started}/0", "elsewhere/b/1/1/0", owner_name()]
        for owner in owners:
            assert Queue(store, owner).lease() is not None
        assert Queue(store).reclaim() == 1
        assert Queue(store).reclaim(owners[1], harmless=True) == 1
        [again, other] = [Queue(store).lease(), Queue(store).lease()]
        assert again is not None and other is not None and [again.attempts, other.attempts] == [2, 1]


def test_a_batch_that_kills_is_split_and_the_content_that_kills_alone_is_doomed(tmp_path: Path) -> None:
    with Store(tmp_path, CONFIGURATION) as store:
        store.freeze(entries_of(20), 8)
        queue, deaths, crashed = Queue(store), 0, []
        culprit = 3
        while (lease := queue.lease()) is not None:
            held = [e.position for e in lease.entries]
            if culprit in held and not lease.doomed:
                deaths += 1
                queue.reclaim(queue.owner)
                continue
            crashed += held if lease.doomed else []
            assert queue.acknowledge(lease, [{"at": p} for p in held])
        assert (crashed, deaths) == ([culprit], MOST_ATTEMPTS + 2)
        positions = [d["at"] for _, d in store.findings() if d is not None]
        assert (
            store.counts()["left"] == 0 and len(set(positions)) == store.counts()["contents"] == store.counts()["done"]
        )


def test_the_heartbeat_renews_while_a_batch_is_examined(tmp_path: Path) -> None:
    with Store(tmp_path, CONFIGURATION) as store:
        store.freeze(entries_of(5), 8)
        queue = Queue(store, clock=lambda: 10.0)  # A lease given long ago.
        lease = queue.lease()
        assert lease is not None
        with Heartbeat(tmp_path, lease, every=0.01):
            for _ in range(500):
                threading.Event().wait(0.01)
                if store.db.execute("SELECT lease_until > 1e9 FROM batches").fetchone()[0]:
                    break
        assert store.db.execute("SELECT lease_until > 1e9 FROM batches").fetchone() == (1,)


def test_a_kill_during_the_listing_or_between_batches_leaves_whole_transactions(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", [b"%d" % i for i in range(60)])
    code = (
        "import sys; from pathlib import Path; from evalkit.auditing.manifest import listed\n"
        "from evalkit.auditing.queueing import Queue; from evalkit.auditing.store import Store\n"
        "import itertools, time\n"
        f"store = Store(Path({str(tmp_path / 'out')!r}), {CONFIGURATION!r})\n"
        f"entries = listed([{str(source)!r}])\n"
        "def slow():\n    for e in entries:\n        print('e', flush=True); yield e\n"
        "store.frozen or store.freeze(slow(), 4)\n"
        "queue = Queue(store); queue.reclaim()\n"
        "while (lease := queue.lease()):\n"
        "    queue.acknowledge(lease, [{'n': e.position} for e in lease.entries]); print('a', flush=True)\n"
    )
    lines, acknowledged = random.Random(3), 0
    for turn in range(5):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            wait = 30 if turn == 0 else lines.randint(1, 4) + (60 if turn == 1 else 0)
            said = [run.stdout.readline() for _ in range(wait)]
            run.kill()
        with Store(tmp_path / "out") as store:
            assert store.frozen == (turn > 0)
            acknowledged += 4 * said.count("a\n")
            assert store.counts()["done"] >= acknowledged
            assert len([d for _, d in store.findings() if d is not None]) == store.counts()["done"]
            assert [e.id for e, _ in store.findings()] == ([e.id for e in listed([str(source)])] if turn else [])
