"""Workers that crash, hang, eat memory, lie or try to get out: it costs the one file, and the parent stays whole."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.isolation import Limits, Pool, wire
from evalkit.isolation.replies import opened_of, shape_of, text_size
from evalkit.samples._media import decode_image
from evalkit.types import Opened
from tests.test_samples_headers import encoded, noise
from tests.toys_witness import marked

ROOT = Path(__file__).resolve().parent.parent
FAULT = ("tests.toys_witness:Fault", {})
LIMITS = Limits(wall_seconds=1.0, cpu_seconds=10)
ENDS = {
    "segfault": ("crash", "the worker was killed by SIGSEGV, in witness fault"),
    "abort": ("crash", "the worker was killed by SIGABRT, in witness fault"),
    "leave": ("crash", "the worker ended by itself (exit status 7), in witness fault"),
    "hang": ("timeout", "more than 1 s, in witness fault"),
    "memory": ("oom", "MemoryError"),
}


@pytest.mark.parametrize("together", [1, 16])
def test_faults_cost_their_file_and_the_others_are_the_same_to_the_bit(together: int) -> None:
    files = [encoded(noise((16 + i % 7, 12)), ("PNG", "JPEG", "BMP")[i % 3]) for i in range(240)]
    faults = {31: "segfault", 77: "abort", 78: "leave", 150: "hang", 222: "memory"}
    for i, fault in faults.items():
        files[i] = marked(files[i], fault)
    with Pool(workers=2, limits=LIMITS, witnesses=[FAULT], hashes=False) as pool:
        found = list(pool.open_many([lambda data=data: data for data in files], together=together))  # type: ignore[misc]
    for i, (opened, pixels) in enumerate(found):
        if i in faults:
            assert (opened.state, opened.reason) == ENDS[faults[i]], opened
            assert (opened.stage, pixels) == ("witness", None)
            assert opened.format == ("PNG", "JPEG", "BMP")[i % 3]
        else:
            assert opened.state == "ok", opened
            assert np.array_equal(pixels, decode_image(files[i]))  # type: ignore[arg-type]
            assert [e.detail for e in opened.evidence] == [f"{len(files[i])} bytes"]


def test_processor_time_is_limited_where_the_wall_clock_is_patient() -> None:
    limits = Limits(cpu_seconds=1, wall_seconds=60)
    with Pool(workers=1, limits=limits, witnesses=[FAULT], hashes=False) as pool:
        opened, _ = pool.open(marked(b"a text ", "spin"))
        assert (opened.state, opened.stage) == ("timeout", "witness")
        assert opened.reason == "more than 1 s of processor time, in witness fault"
        assert pool.open(b"words")[1] == "words"


def test_what_a_witness_raises_is_a_warning_of_the_file() -> None:
    odd = ("tests.toys_witness:Odd", {})
    with Pool(workers=1, witnesses=[FAULT, odd], hashes=False) as pool:
        opened, text = pool.open(marked(b"a text ", "fail"))
        assert (opened.state, opened.warnings) == ("ok_with_warning", ("witness fault: ValueError: no such tag",))
        assert isinstance(text, str)
        assert pool.open(marked(b"a text ", "quit"))[0].warnings == ("witness fault: SystemExit: enough",)
        [_, said] = pool.open(b"words")[0].evidence
    assert len(said.detail) == 20_000
    assert {name: said.facts[name] for name in ("nan", "half", "bytes", "big", "set")} == {
        "nan": None,
        "half": "\\ud800",
        "bytes": "00ff",
        "big": str(2**70),
        "set": [1],
    }
    json.dumps(said.facts, allow_nan=False).encode("utf-8")


GOOD: dict[str, Any] = {
    "state": "ok", "stage": "", "reason": None, "decoder": "", "format": "PNG", "modality": "image", "width": 9,
    "height": 9, "facts": {}, "hashes": {}, "evidence": [], "warnings": [], "seconds": 0.1, "peak_bytes": 1,
}  # fmt: skip
EVIDENCE = {"kind": "metadata", "says": "unknown", "strength": "hint", "source": "x", "detail": "y", "facts": {}}


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def told(**changes: Any) -> bytes:
    return framed(json.dumps({**GOOD, **changes}).encode())


HOSTILE = {
    "more than agreed": b"\xff\xff\xff\xff" + b"x" * 99,
    "no JSON": framed(b"\x80\x04cos\nsystem\n"),
    "no object": framed(b"[1, 2]"),
    "two answers": told() + told(),
    "deep": framed(b"[" * 200_000 + b"]" * 200_000),
    "deep but valid": told(facts={"a": json.loads("[" * 60 + "]" * 60)}),
    "not a number": framed(json.dumps({**GOOD, "seconds": float("nan")}).encode()),
    "infinite": framed(json.dumps({**GOOD, "seconds": 1}).replace('"seconds": 1', '"seconds": 1e999').encode()),
    "long number": framed(b'{"width": ' + b"9" * 100_000 + b"}"),
    "unknown state": told(state="fine"),
    "state of another type": told(state=["ok"]),
    "no state": framed(b"{}"),
    "huge pixels": told(shape=[10**9, 10**9, 3]),
    "pixels below nothing": told(shape=[-1, 5, 3]),
    "pixels over the budget": told(shape=[64_000_001, 1, 3]),
    "four channels": told(shape=[2, 2, 4]),
    "true pixels": told(shape=[True, True, 3]),
    "huge text": told(text=10**12, modality="text"),
    "text below nothing": told(text=-1),
    "true text": told(text=True),
    "evidence of an unknown kind": told(evidence=[{**EVIDENCE, "kind": "proof"}]),
    "evidence beyond one": told(evidence=[{**EVIDENCE, "p_value": 2}]),
    "evidence without end": told(evidence=[EVIDENCE] * 9000),
    "warning that is no text": told(warnings=[{}]),
    "modality of its own": told(modality="video"),
}


def test_a_hostile_answer_is_a_crash_of_its_file_and_nothing_more() -> None:
    with Pool(workers=1, limits=Limits(wall_seconds=5), witnesses=[FAULT], hashes=False) as pool:
        for name, payload in HOSTILE.items():
            if len(payload) > 100_000:
                continue  # does not fit the socket at once; the same message goes to `strict` below
            opened, media = pool.open(marked(b"a text ", f"send {payload.hex()}"))
            assert (opened.state, media) == ("crash", None), name
            assert "broke the protocol" in str(opened.reason), (name, opened)
        lie = told(shape=[4000, 4000, 3])
        opened, media = pool.open(marked(b"a text ", f"shrink {lie.hex()}"))
        assert (opened.state, media) == ("crash", None)
        assert "shorter than agreed" in str(opened.reason)
        assert pool.open(b"words")[1] == "words"


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_messages_are_refused_where_they_are_read(name: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(0)
        payload, limits = HOSTILE[name], Limits(most_reply=400_000)
        with pytest.raises(wire.BadMessage):
            if len(payload) > 100_000:
                answer = wire.strict(payload[4:])
            else:
                theirs.sendall(payload)
                answer = wire.receive(ours, limits.most_reply, 1.0)
            opened = opened_of(answer, limits)
            shape_of(answer, opened, limits)
            text_size(answer, opened, limits)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=9,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*GOOD, "shape", "text"]), json_values)
def test_any_value_in_any_field_is_a_noun_or_a_bad_message(name: str, value: Any) -> None:
    limits = Limits()
    try:
        answer = wire.strict(json.dumps({**GOOD, name: value}).encode())
        opened = opened_of(answer, limits)
        shape, size = shape_of(answer, opened, limits), text_size(answer, opened, limits)
    except wire.BadMessage:
        return
    assert isinstance(opened, Opened)
    assert shape is None or shape[0] * shape[1] <= limits.most_pixels
    assert size is None or size <= limits.shared


def test_bytes_that_trickle_in_do_not_stop_the_clock() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\0\0\0\x09" + b"x")
        with pytest.raises(TimeoutError):
            wire.receive(ours, 100, 0.1)


def test_a_worker_reaches_no_network_file_program_or_process(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    with socket.create_server(("127.0.0.1", 0)) as server:
        outward = {"port": server.getsockname()[1], "path": str(kept), "victim": os.getpid()}
        with Pool(workers=1, witnesses=[("tests.toys_witness:Outward", outward)], hashes=False) as pool:
            opened, _ = pool.open(b"words")
            protections = " ".join(pool.protections)
        server.settimeout(0.1)
        done = {e.detail: e.facts["done"] for e in opened.evidence}
        assert opened.state == "ok" and len(done) == 6, opened
        assert done["python"] == "PermissionError"
        if "not in force: a network namespace" not in protections:
            assert done["libc"] == "-1"
            with pytest.raises(TimeoutError):
                server.accept()
    assert kept.read_text() == "kept" or "not in force: no writing" in protections
    if "(Landlock" in protections and "not in force: no writing" not in protections:
        assert (done["open"], done["unlink"], done["run"]) == ("PermissionError", "PermissionError", "-1")
    if "no signals to others" in protections:
        assert done["kill"] == "-1"


def test_workers_load_nothing_heavy_and_not_the_main_module() -> None:
    with Pool(workers=1, witnesses=[("tests.toys_witness:Modules", {})], hashes=False) as pool:
        [said] = pool.open(encoded(noise(), "PNG"))[0].evidence
    assert not {"torch", "scipy", "sklearn", "pandas", "pytest", "_pytest", "click"} & set(said.facts["loaded"])
    assert {"numpy", "PIL"} <= set(said.facts["loaded"])
    assert said.facts["changeable"] is False


def test_a_lost_fork_server_is_replaced_and_a_worker_after_many_files_too() -> None:
    with Pool(workers=1, limits=Limits(recycle_after=5), hashes=False) as pool:
        seen = set()
        for i in range(12):
            assert pool.open(f"text {i}".encode())[1] == f"text {i}"
            seen |= {hand._child for hand in pool._hands}
        assert len(seen) == 3
        assert pool._nest is not None
        pool._nest._process.kill()
        pool._nest._process.wait()
        assert pool.open(b"words")[1] == "words"


RUN = """
import sys
from evalkit.isolation import Limits, Pool
fault = [("tests.toys_witness:Fault", {})]
with Pool(workers=1, limits=Limits(wall_seconds=100), witnesses=fault, hashes=False) as pool:
    print(pool._nest._process.pid, *(hand._child for hand in pool._hands), flush=True)
    pool.open(b"EVALKIT-FAULT:hang")
"""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_no_process_outlives_the_parent(number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", RUN],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        # A shell that starts its command in the background switches SIGINT off, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert parent.stdout is not None
    with parent.stdout as said:
        children = [int(pid) for pid in said.readline().split()]
    assert len(children) == 2 and all(lives(pid) for pid in children)
    time.sleep(0.2)  # until the file that hangs is being opened
    parent.send_signal(number)
    parent.wait(20)
    deadline = time.monotonic() + 20
    while any(lives(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in children if lives(pid)]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
