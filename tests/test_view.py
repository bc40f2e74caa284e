"""The run browser over HTTP: what it lists, how it reads, what it refuses, and a metric over time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from evalkit.cli import run
from evalkit.serving import Reply, Request
from evalkit.viewing.browser import Browser, view
from evalkit.viewing.found import HEAD, Folder, head_of
from tests.conftest import failed
from tests.pages import PAYLOADS, Node, Page
from tests.test_judge import fetch, served


def record(path: Path, value: float, *, name: str = "gan", time: int = 0, **changes: Any) -> None:
    result = {"name": "fid@pixels", "value": value, "low": value - 1, "high": value + 1, "better": "lower", "unit": "u",
              "n": {"real": 9, "fake": 9}, "version": 1, "protocol": "sha256:aa", "terms": {"n": 9},
              "moves": {"real": {"key": "k", "share": 1, "parts": "1 2"}}}  # fmt: skip
    body = {"schema": "evalkit.run/1",
            "subject": {"name": name, "modality": "image", "source": "s", "n": 9, "digest": "d"},
            "reference": {"name": "real", "n": 9, "digest": "e"}, "train": None, "seed": 0,
            "results": [{**result, **changes.pop("result", {})}], "timing": None,
            "environment": {"commit": f"{time:040x}"}, "excluded": [], "warnings": ["careful"]}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**body, **changes}))
    os.utime(path, (1_000_000 + time, 1_000_000 + time))


def shown(reply: Reply) -> Node:
    assert reply.status == 200, reply.body
    return Page(reply.body.decode()).root


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    for i in range(6):
        unlike = {"protocol": "sha256:bb", "terms": {"n": 12}} if i > 3 else {}
        record(tmp_path / f"night/{i}.json", 10 + i, time=i, result=unlike)
    record(tmp_path / "other.json", 5, name="vae", time=9)
    yield tmp_path


def test_the_list_is_newest_first_and_filters_without_script(runs: Path) -> None:
    browser = Browser(Folder(runs))
    names = [row.all("th")[0].text for row in shown(browser(Request("GET", ""))).all("tr")[1:]]
    assert names == ["vae"] + ["gan"] * 6
    found = shown(browser(Request("GET", "", {"q": "VAE image"})))
    assert [row.all("th")[0].text for row in found.all("tr")[1:]] == ["vae"]
    assert found.all("form")[0].attrs["method"] == "get"
    assert "Nothing here matches" in shown(browser(Request("GET", "", {"q": "zzz"}))).text
    assert browser(Request("POST", "")).status == 405


def test_history_joins_equal_protocols_only_and_says_so(runs: Path) -> None:
    page = shown(Browser(Folder(runs))(Request("GET", "metric", {"name": "fid@pixels"})))
    lines = [
        n.attrs["d"] or ""
        for n in page.all("path", class_="curve")
        if "L" in (n.attrs["d"] or "") or n.attrs["d"] != "M1 4H29"
    ]
    # vae alone, gan under the newer protocol (2 points) and under the older one (4 points).
    assert sorted(d.count("L") for d in lines) == [0, 1, 3]
    assert len(page.all("path", class_="whisker")) == 7 and len(page.all("path", class_="knot")) == 7
    assert "n is 12, now 9" in page.text and "Not comparable" in page.text
    assert "vae" not in shown(Browser(Folder(runs))(Request("GET", "metric", {"name": "fid@pixels", "q": "gan"}))).text
    assert "No run" in shown(Browser(Folder(runs))(Request("GET", "metric", {"name": "nope"}))).text


def test_broken_documents_are_listed_with_their_reason_and_strangers_are_not(runs: Path) -> None:
    whole = (runs / "other.json").read_text()
    (runs / "cut.json").write_text(whole[: len(whole) // 2])
    (runs / "empty.json").write_text("")
    (runs / "text.json").write_text("hello")
    (runs / "deep.json").write_text("[" * 100_000)
    (runs / "future.json").write_text(whole.replace("evalkit.run/1", "evalkit.run/9"))
    (runs / "nan.json").write_text(whole.replace('"value": 5', '"value": NaN'))
    (runs / "odd.json").write_text(whole.replace('"results": [{', '"results": [3, null, {"name": 7}, {'))
    (runs / "package.json").write_text('{"name": "not ours"}')
    browser = Browser(Folder(runs))
    rows = {row.all("code")[0].text: row.text for row in shown(browser(Request("GET", ""))).all("tr")[1:]}
    reasons = {"cut.json": "cut off", "empty.json": "empty file", "text.json": "not a JSON", "deep.json": "not a JSON"}
    for name, words in {**reasons, "future.json": "this version reads 'evalkit.run/1'"}.items():
        assert words in rows[name], name
    assert "package.json" not in rows and "odd.json" in rows
    assert "it holds NaN" in shown(browser(Request("GET", "run", {"file": "nan.json"}))).text
    assert "fid@" in shown(browser(Request("GET", "run", {"file": "odd.json"}))).text
    history = shown(browser(Request("GET", "metric", {"name": "fid@pixels"}))).text
    assert "Could not be read (1)" in history and "nan.json" in history


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_texts_stay_text_on_every_page(tmp_path: Path, payload: str) -> None:
    result = {"name": payload, "unit": payload, "protocol": payload, "terms": {payload: payload}, "better": payload}
    extra = {"warnings": [payload], "environment": {payload: payload, "commit": payload}}
    record(tmp_path / "a.json", 3, name=payload, result=result, **extra)
    record(tmp_path / "b.json", 3, name=payload, time=1, result={**result, "protocol": "x"}, **extra)
    browser = Browser(Folder(tmp_path))
    asked = [("", {"q": payload}), ("", {}), ("run", {"file": "a.json"}), ("metric", {"name": payload, "q": payload})]
    for path, query in asked:
        reply = browser(Request("GET", path, query))
        root = shown(reply)
        assert len(root.all("script")) == 1 and not root.all("img") and not root.all("iframe") and not root.all("base")
        for node in root.walk():
            assert not any(key.startswith("on") for key in node.attrs)
            href = node.attrs.get("href") or ""
            assert ":" not in href.partition("?")[0] and not href.startswith("//"), href
        assert "script-src 'sha256-" in reply.policy and "unsafe" not in reply.policy


def test_only_files_of_reports_under_the_folder_are_served(
    runs: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.html").write_text("secret")
    record(outside / "linked.json", 1)
    report = runs / "report é"
    report.mkdir()
    (report / "leaderboard.json").write_text(json.dumps({"schema": "evalkit.leaderboard/1", "title": "Board"}))
    (report / "index.html").write_text("<p>hello</p><script>alert(1)</script>")
    (report / "link.html").symlink_to(outside / "secret.html")
    (report / "key.pem").write_text("private")
    (runs / "alone.html").write_text("not a report")
    (runs / "linked.json").symlink_to(outside / "linked.json")
    (runs / "folder").symlink_to(outside)
    with served(view(runs)) as url:
        assert b"linked.json" not in fetch(url)[1]
        status, body = fetch(f"{url}files/{quote('report é/index.html')}")
        assert (status, body) == (200, b"<p>hello</p><script>alert(1)</script>")
        refused = (
            "report é/link.html",
            "report é/key.pem",
            "alone.html",
            "report é/../alone.html",
            "../outside/secret.html",
        )
        for path in (*refused, "/etc/passwd", "report é/../../x.html", "folder/secret.html", "report é", "\x00", ""):
            assert fetch(f"{url}files/{quote(path)}")[0] == 404, path
        assert fetch(f"{url}run?file=../other.json")[0] == 404
        assert fetch(url.rsplit("/", 2)[0] + "/")[0] == 403
    reply = Browser(Folder(runs))(Request("GET", f"files/{quote('report é/index.html')}"))
    # A stored page's own script has not the hash of ours: it does not run.
    assert "script-src 'sha256-" in reply.policy and "default-src 'none'" in reply.policy


def test_a_list_reads_heads_and_each_file_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(runs / "large.json", 1, time=20, attribution={"fid@pixels": [{"id": "x" * 50, "value": 1.0}] * 40_000})
    folder = Folder(runs)
    looked: list[str] = []
    real = Folder._look
    monkeypatch.setattr(Folder, "_look", lambda self, path, stamp: looked.append(path) or real(self, path, stamp))
    monkeypatch.setattr(Folder, "_read", lambda *_: pytest.fail("a list needs no whole document"))
    first = folder.entries()
    assert first[0].title == "gan" and first[0].detail.startswith("image, n = 9") and len(looked) == 8
    assert folder.entries() == first and len(looked) == 8
    record(runs / "other.json", 6, name="vae2", time=30)
    assert folder.entries()[0].title == "vae2" and looked[8:] == ["other.json"]


def test_a_head_is_what_is_whole_in_the_first_bytes() -> None:
    assert head_of(b'{"a": 1, "b": [1, 2], "c": "x') == {"a": 1, "b": [1, 2]}
    assert head_of(b'{"a": 12') == {} and head_of(b"[1]") == {} and head_of(b'{"a" 1}') == {}
    assert head_of(b'{"a": ' + b"[" * HEAD) == {}


@pytest.mark.skipif(os.name != "posix", reason="names that are no UTF-8")
def test_names_that_are_no_utf8_are_listed_and_opened(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9\n<b>.json")
    record(tmp_path / odd, 3)
    with served(view(tmp_path)) as url:
        page = Page(fetch(url)[1].decode()).root
        link = next(a.attrs["href"] for a in page.all("a") if "run?file" in (a.attrs["href"] or ""))
        assert link is not None
        status, body = fetch(url + link)
    assert status == 200 and b"fid@" in body and b"<b>.json" not in body


def test_what_is_no_folder_and_a_port_that_is_taken_are_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = failed(capsys, ["view", str(runs / "nothing"), "--no-browser"])
    assert code == 2 and "no such folder" in line
    with served(view(runs)) as url:
        port = url.split(":")[2].split("/")[0]
        code, line = failed(capsys, ["view", str(runs), "--port", port, "--no-browser"])
    assert code == 3 and f"cannot listen on port {port}" in line


def test_an_interrupted_server_is_a_clean_end(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evalkit.serving.LocalServer.serve", interrupted)
    assert run(["view", str(runs), "--no-browser"]) == 0
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")
