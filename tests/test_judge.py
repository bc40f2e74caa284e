"""The judging server over real HTTP: who is let in, what it gives away (nothing), and answers that stay."""

from __future__ import annotations

import http.client
import io
import json
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.human.conducting import judge, open_study
from evalkit.human.store import Store
from evalkit.serving import MOST_BODY, LocalServer

NAMES = ("secretreal", "secretgan", "secretvae")


def make_sets(home: Path, n: int = 40) -> None:
    """Three folders whose names, formats, sizes and metadata all tell what they are."""
    for name, suffix, side, low in zip(NAMES, ("jpg", "png", "png"), (14, 12, 16), (0, 60, 120), strict=True):
        (home / name).mkdir()
        for i in range(n):
            rng = np.random.default_rng([low, i])
            image = Image.fromarray(rng.integers(low, low + 100, (side, side, 3)).astype(np.uint8))
            image.save(home / name / f"{name}-{i}.{suffix}", comment=b"secretcamera", quality=95)


def post(url: str, body: Any, **headers: str) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    origin = "/".join(url.split("/")[:3])
    given = {
        "Content-Type": "application/json",
        "Origin": origin,
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    return fetch(urllib.request.Request(url, raw, {k: v for k, v in given.items() if v}))


def fetch(request: urllib.request.Request | str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            data = reply.read()
            return reply.status, json.loads(data) if reply.headers["Content-Type"] == "application/json" else data
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@contextmanager
def served(server: LocalServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server.url
    finally:
        server.close()
        thread.join(10)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sets")
    make_sets(home)
    return home


@pytest.fixture(scope="module", params=["real-or-fake", "2afc"])
def asked(home: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A study that is being served: (address, store)."""
    fakes = {name: str(home / name) for name in NAMES[1:]}
    out = tmp_path_factory.mktemp("study") / "faces.sqlite"
    store = open_study(fakes, str(home / NAMES[0]), out, mode=request.param, items=20, catch=0.2)
    with closing(store), served(judge(store)) as url:
        yield url, store


# -------------------------------------------------------------------------------------------- who is let in


@pytest.mark.parametrize("path", ["/", "/wrong/", "/wrong/media/x", "//", "/%00/"])
def test_without_the_token_nothing_is_told(asked: Any, path: str) -> None:
    url, _ = asked
    status, body = fetch("/".join(url.split("/")[:3]) + path)
    assert status == 403 and b"not allowed" in body
    assert post("/".join(url.split("/")[:3]) + f"{path}begin", {"rater": "x"})[0] == 403


def test_a_foreign_host_or_origin_is_refused(asked: Any) -> None:
    url, _ = asked
    for host in ("evil.example", "127.0.0.1", "127.0.0.1:1", ""):
        request = urllib.request.Request(url, headers={"Host": host})
        assert fetch(request)[0] == 403
    for origin in ("http://evil.example", "null", ""):
        assert post(f"{url}begin", {"rater": "x"}, Origin=origin)[0] == 403
    assert post(f"{url}begin", {"rater": "x"}, Content_Type="text/plain")[0] == 403
    assert fetch(url.replace("127.0.0.1", "localhost"))[0] == 200


def test_what_is_not_there_is_404_and_what_is_too_large_413(asked: Any) -> None:
    url, _ = asked
    for path in ("../", "..%2f..%2fetc/passwd", "media/../../x", "media/none", "media/", "faces.sqlite", "begin"):
        assert fetch(f"{url}{path}")[0] == 404, path
    assert post(f"{url}nothing", {})[0] == 404
    assert post(f"{url}answer", b" " * (MOST_BODY + 1))[0] == 413
    for raw in (b"{", b"[]", b"[" * 5000, b'{"rater": NaN}', b'{"rater": 7}', b'{"rater": ""}'):
        assert post(f"{url}begin", raw)[0] == 400
    assert post(f"{url}begin", {"rater": "a\u202eb"})[0] == 400
    assert post(f"{url}begin", {"rater": "x" * 61})[0] == 400


def test_a_body_needs_a_length(asked: Any) -> None:
    url, _ = asked
    host = url.split("/")[2]
    with closing(http.client.HTTPConnection(host, timeout=10)) as connection:
        # The head alone: the answer may come, and the server be gone, before a body is sent.
        connection.putrequest("POST", f"/{url.split('/')[3]}/begin")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        assert connection.getresponse().status == 411


def test_every_answer_carries_the_headers_and_the_page_its_policy(asked: Any) -> None:
    url, _ = asked
    with urllib.request.urlopen(url, timeout=10) as reply:
        page, headers = reply.read().decode(), reply.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store" and "Python" not in headers["Server"]
    assert "http://" not in page and "https://" not in page and "onclick" not in page


# ------------------------------------------------------------------------------------------------ blinding


def test_no_reply_gives_the_answer_away(asked: Any) -> None:
    url, store = asked
    seen = [fetch(url)[1]]
    _, begun = post(f"{url}begin", {"rater": "Blind"})
    assert {key for trial in begun["trials"] for key in trial} == {"id", "media"}
    sizes, formats = set(), set()
    for name in [m for trial in begun["trials"] for m in trial["media"]]:
        status, data = fetch(f"{url}media/{name}")
        assert status == 200
        with Image.open(io.BytesIO(data)) as image:
            formats.add((image.format, image.size, image.mode, str(image.info)))
        sizes.add(len(data))
        seen.append(data)
    # One size in bytes, one shape, one format, no metadata: nothing but the pixels differs.
    assert len(sizes) == 1 and len(formats) == 1 and "{}" in next(iter(formats))
    seen.append(json.dumps(begun).encode())
    for data in seen:
        assert not any(word.encode() in data for word in (*NAMES, "secret", ".jpg"))
    # Of trials, not even the words: only the page itself asks "real or generated".
    for data in seen[1:]:
        assert not any(word in data for word in (b"real", b"fake", b"catch", b"repeat", b"judged"))
    names = [m for trial in begun["trials"] for m in trial["media"]]
    assert len(set(names)) == len(names), "a repeated item has the same name twice"
    _, other = post(f"{url}begin", {"rater": "Other"})
    assert not {t["id"] for t in other["trials"]} & {t["id"] for t in begun["trials"]}
    assert len(store.raters()) >= 2


def test_orders_differ_between_raters_and_sides_are_balanced(asked: Any) -> None:
    from evalkit.human.trials import sheet_of

    _, store = asked
    orders = [[t.item for t in sheet_of(store, key)] for key in ("a", "b", "a")]
    assert orders[0] == orders[2] != orders[1] and sorted(orders[0]) == sorted(orders[1])
    place = {item: at for at, item in enumerate(orders[0])}
    repeats = [i for i, item in enumerate(store.items) if item.kind == "repeat"]
    assert len(repeats) == 4 and all(place[i] - place[store.items[i].of] >= 2 for i in repeats)
    if store.terms.mode == "2afc":
        for key in ("a", "b", "c"):
            of_kind: dict[Any, list[int]] = {}
            for t in sheet_of(store, key):
                if store.items[t.item].kind == "judged":
                    sets = tuple(store.sets[s] for s in store.items[t.item].stimuli)
                    of_kind.setdefault(sets, []).append(t.flipped)
            assert len(of_kind) == 3
            assert all(abs(2 * sum(f) - len(f)) <= 1 for f in of_kind.values()), of_kind


# ------------------------------------------------------------------------------------------------- answers


def test_a_double_post_is_kept_once_and_a_change_is_a_new_row_that_does_not_count(asked: Any) -> None:
    url, store = asked
    words = ("real", "fake") if store.terms.mode == "real-or-fake" else ("left", "right")
    _, begun = post(f"{url}begin", {"rater": "Twice"})
    body = {"session": begun["session"], "trial": begun["trials"][0]["id"], "answer": words[0], "confidence": 4}
    body |= {"ms": 812, "key": "a" * 16}
    for _ in range(3):
        assert post(f"{url}answer", body) == (200, {"done": 1, "total": begun["total"]})
    assert post(f"{url}answer", {**body, "answer": words[1], "key": "b" * 16}) == (
        200,
        {"done": 1, "total": begun["total"]},
    )
    [rater] = [r for r in store.raters() if r.name == "Twice"]
    [answer] = rater.answers.values()
    assert (answer.confidence, answer.client_ms, rater.changed) == (4, 812.0, 1)
    assert answer.server_ms is not None and answer.server_ms > 0
    with closing(sqlite3.connect(store.path)) as db:
        [(rows,)] = db.execute("SELECT count(*) FROM answers JOIN raters USING (rater) WHERE name = 'Twice'")
        assert rows == 2
        for change in ("UPDATE answers SET choice = 'real'", "DELETE FROM answers"):
            with pytest.raises(sqlite3.IntegrityError, match="only added"):
                db.execute(change)


@pytest.mark.parametrize(
    "change",
    [
        {"answer": "maybe"}, {"answer": None}, {"confidence": 5}, {"confidence": True}, {"confidence": "1"},
        {"ms": -1}, {"ms": 1e12}, {"ms": "5"}, {"key": "short"}, {"key": "x" * 65}, {"key": "<script>alert(1)"},
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_refused_in_a_line(asked: Any, change: dict[str, Any]) -> None:
    url, store = asked
    _, begun = post(f"{url}begin", {"rater": "Odd"})
    word = "real" if store.terms.mode == "real-or-fake" else "left"
    body = {"session": begun["session"], "trial": begun["trials"][0]["id"], "answer": word, "key": "k" * 12}
    status, said = post(f"{url}answer", {**body, **change})
    assert status == 400 and said.count(b"\n") == 1 and b"expected" in said
    for unknown in ({"trial": "none"}, {"trial": 3}, {"session": "none"}, {"session": None}):
        assert post(f"{url}answer", {**body, **unknown})[0] == 404
    [rater] = [r for r in store.raters() if r.name == "Odd"]
    assert not rater.answers


def test_what_was_acknowledged_survives_a_kill_and_the_same_command_goes_on(tmp_path: Path) -> None:
    make_sets(tmp_path, 30)
    command = [
        sys.executable,
        "-m",
        "evalkit",
        "judge",
        *NAMES[1:],
        "--real",
        NAMES[0],
        "--items",
        "16",
        "--no-browser",
    ]
    done = 0
    for _ in range(2):
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={"PYTHONPATH": str(Path(__file__).resolve().parent.parent), "EVALKIT_CACHE": str(tmp_path / "cache")},
        )  # fmt: skip
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        status, begun = post(f"{url}begin", {"rater": "Ada"})
        assert (status, begun["done"], len(begun["trials"])) == (200, done, begun["total"] - done)
        for trial in begun["trials"][:5]:
            body = {"session": begun["session"], "trial": trial["id"], "answer": "real", "key": trial["id"]}
            assert post(f"{url}answer", body)[1]["done"] == done + 1
            done += 1
        process.kill()
        process.communicate()
    with closing(Store(tmp_path / "study.sqlite")) as store:
        assert len(store.raters()[0].answers) == 10
