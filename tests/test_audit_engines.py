"""The engines: one process, several, Ray; whatever dies on the way, the findings are the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evalkit.auditing.engines import Spec, run
from evalkit.auditing.queueing import ALONE, MOST_ATTEMPTS, Queue
from evalkit.auditing.store import Store, working_on
from evalkit.errors import BadRows, BadSetting, RunFailed
from tests.queued import audit_of, folder_of, found, spec

CONTENTS = [b"%d" % (i % 50) * (i + 1) for i in range(60)]
COMMAND = """
import sys
from pathlib import Path
from evalkit.auditing.engines import run
from evalkit.auditing.store import Store, working_on
from evalkit.interrupts import Terminated, heed
from tests.queued import spec
if __name__ == "__main__":
    heed()
    out, notes, devices = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")
    try:
        with working_on(out), Store(out) as store:
            run(store, spec(notes=notes), devices=devices)
    except (KeyboardInterrupt, Terminated) as stopped:
        sys.exit({"KeyboardInterrupt": 130, "Terminated": 143}[type(stopped).__name__])
"""


class Steps:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def start(self, task: str, total: int) -> None:
        self.told += [task, total]

    def advance(self, n: int = 1) -> None:
        self.told.append(n)

    def finish(self) -> None:
        self.told.append("done")


def audited(tmp_path: Path, contents: list[bytes], name: str, **settings: Any) -> list[Any]:
    source = folder_of(tmp_path / "in", contents)
    with audit_of(source, tmp_path / name) as store:
        run(store, spec(**settings.pop("toy", {})), **settings)
        assert store.counts()["left"] == 0
        return found(store)


def started(tmp_path: Path, devices: str) -> subprocess.Popen[bytes]:
    command = tmp_path / "command.py"
    command.write_text(COMMAND)
    root = Path(__file__).resolve().parents[1]
    places = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(command), str(tmp_path / "out"), str(tmp_path), devices],
        env={**os.environ, "PYTHONPATH": places},
        start_new_session=True,
        # A shell that starts its command in the background switches SIGINT off, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def until(path: Path, seconds: float = 30) -> None:
    """Wait for a note of the toy's."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.02)


def gone(group: int, seconds: float = 20) -> None:
    """Wait until no process of a group is left."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a process was left behind")


def test_one_process_and_two_give_the_same_findings_and_progress(tmp_path: Path) -> None:
    alone, crew = Steps(), Steps()
    one = audited(tmp_path, CONTENTS, "one", progress=alone)
    two = audited(tmp_path, CONTENTS, "two", devices=["cpu", "cpu"], progress=crew)
    assert one == two and len(one) == 60
    assert one[0] == ("in/0000.bin", {"sha256": one[0][1]["sha256"], "state": "ok", "sum": 48, "share": 1 / 7})
    for steps in (alone, crew):
        assert steps.told[:3] == ["examining", 60, 0] and sum(steps.told[2:-1]) == 60 and steps.told[-1] == "done"


def test_a_finished_audit_makes_no_worker(tmp_path: Path) -> None:
    audited(tmp_path, CONTENTS, "out")
    with Store(tmp_path / "out") as store:
        run(store, Spec("tests.queued:nothing_of_this_name", {}))


def test_contents_that_kill_are_named_and_the_rest_is_as_without_them(tmp_path: Path) -> None:
    calm = dict(audited(tmp_path / "without", CONTENTS, "out"))
    deadly = list(CONTENTS)
    deadly[3] = b"KILL 3"
    killed = dict(audited(tmp_path / "with", deadly, "out", devices=["cpu", "cpu"], toy={"notes": str(tmp_path)}))
    assert killed["in/0003.bin"]["state"] == "crash"
    assert {k: v for k, v in killed.items() if k != "in/0003.bin"} == {
        k: v for k, v in calm.items() if k != "in/0003.bin"
    }
    assert len((tmp_path / "killed").read_text()) == MOST_ATTEMPTS + ALONE


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]])
def test_an_error_of_a_worker_ends_the_run_in_one_line_and_gives_its_batch_back(
    tmp_path: Path, devices: list[str]
) -> None:
    for content, kind, said in ((b"BAD", BadRows, "these rows are bad"), (b"BUG", RunFailed, "KeyError: 'unforeseen'")):
        source = folder_of(tmp_path / said[:2] / "in", [*CONTENTS[:20], content])
        with audit_of(source, tmp_path / said[:2] / "out") as store:
            with pytest.raises(kind, match=said) as raised:
                run(store, spec(), devices=devices)
            assert "\n" not in str(raised.value) and Queue(store).held() is None
            assert store.db.execute("SELECT max(attempts) FROM batches WHERE state = 'pending'").fetchone() == (0,)


def test_helpers_that_die_at_birth_end_the_run(tmp_path: Path) -> None:
    with audit_of(folder_of(tmp_path / "in", CONTENTS), tmp_path / "out") as store:
        with pytest.raises(RunFailed, match="before they examined anything"):
            run(store, Spec("tests.queued:stillborn", {}), devices=["cpu", "cpu"])
        assert store.counts()["left"] == 60


@pytest.mark.parametrize(
    ("number", "devices", "code"),
    [(signal.SIGINT, "cpu", 130), (signal.SIGTERM, "cpu", 143), (signal.SIGINT, "cpu,cpu", 130)],
)
def test_an_interrupt_gives_the_batch_back_and_leaves_nothing_running(
    tmp_path: Path, number: int, devices: str, code: int
) -> None:
    with audit_of(folder_of(tmp_path / "in", [*CONTENTS[:9], b"SLOW"]), tmp_path / "out") as store:
        command = started(tmp_path, devices)
        until(tmp_path / "waiting")
        os.killpg(command.pid, number)
        assert command.wait(30) == code
        assert Queue(store).held() is None and store.counts()["done"] == 8
        assert store.db.execute("SELECT attempts FROM batches WHERE state = 'pending'").fetchone() == (0,)
        gone(command.pid)


def test_a_killed_command_takes_its_helpers_along_and_the_next_goes_on_at_once(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", [*CONTENTS[:9], b"SLOW"])
    with audit_of(source, tmp_path / "out") as store:
        command = started(tmp_path, "cpu,cpu")
        until(tmp_path / "waiting")
        command.kill()
        command.wait()
        with working_on(tmp_path / "out"):
            run(store, spec(quick=True))
        assert store.counts()["left"] == 0
        assert store.db.execute("SELECT max(attempts) FROM batches").fetchone() == (2,)
        gone(command.pid)


def test_what_cannot_be_run_is_refused_in_words(tmp_path: Path) -> None:
    with audit_of(folder_of(tmp_path / "in", CONTENTS), tmp_path / "out") as store:
        for given, said in (({"engine": "spark"}, "local, ray"), ({"devices": []}, "no device")):
            with pytest.raises(BadSetting, match=said):
                run(store, spec(), **given)
        with pytest.raises(BadSetting, match="module:function"):
            run(store, Spec("tests.queued:nothing", {}))
        machine = "elsewhere/b/1/1/0"
        assert Queue(store, machine).lease() is not None
        with pytest.raises(RunFailed, match="elsewhere"):
            run(store, spec())
        assert store.counts()["done"] == 52
    with Store(tmp_path / "new", {}) as unlisted, pytest.raises(RunFailed, match="not whole"):
        run(unlisted, spec())


def test_ray_is_asked_for_by_name_when_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        audit_of(folder_of(tmp_path / "in", CONTENTS), tmp_path / "out") as store,
        pytest.raises(BadSetting, match=r"pip install 'evalkit\[ray\]'"),
    ):
        run(store, spec(), engine="ray")


@pytest.mark.slow  # Ray alone takes 15 s to start, more on a busy machine
def test_a_local_ray_of_two_actors_gives_the_same_findings_names_the_culprit_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("HOME", str(tmp_path))
    contents = [*CONTENTS, b"KILL"]
    local = audited(tmp_path, contents, "local", devices=["cpu", "cpu"])
    before = dict(os.environ)
    steps = Steps()
    ray = audited(tmp_path, contents, "ray", engine="ray", devices=["cpu", "cpu"], progress=steps)
    assert ray == local and ray[60][1]["state"] == "crash"
    assert sum(steps.told[2:-1]) == 61 and dict(os.environ) == before
    assert not (tmp_path / ".ray").exists()  # Its token was known to that run alone.
