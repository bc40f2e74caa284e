"""`evalkit weights list | fetch | verify`: what they print, and the exit code of each thing that can be wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import evalkit.weights
from evalkit.cli import run
from evalkit.weights import SHIPPED, Weights, weights_folder

from .conftest import failed

CONTENT = b"weights of a network"
NET = Weights(
    file="net.pth",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    licence="CC-BY-NC-4.0",
    trained_on="holiday pictures",
    url="https://weights.invalid/net.pth",
)
TINY = Weights(
    file="tiny.pth", sha256="0" * 8, licence="MIT", trained_on="nothing", url="https://weights.invalid/tiny.pth"
)


@pytest.fixture(autouse=True)
def offline(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(at_home))
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    monkeypatch.setattr(evalkit.weights, "HUB", {"net": NET, "tiny": TINY})
    return at_home


def keep(content: bytes) -> Path:
    weights_folder().mkdir(parents=True, exist_ok=True)
    path = weights_folder() / NET.file
    path.write_bytes(content)
    return path


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    assert run(["weights", "list", "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)["weights"]}


def test_the_list_says_what_is_known_and_where_it_lies(capsys):
    row = listed(capsys)["net"]
    assert (row["file"], row["sha256"], row["why"]) == (NET.file, NET.sha256, "absent")
    assert (row["licence"], row["trained_on"]) == (NET.licence, NET.trained_on)
    assert "found" not in row and "bytes" not in row
    path = keep(CONTENT)
    row = listed(capsys)["net"]
    assert (row["found"], row["bytes"]) == (str(path), len(CONTENT)) and "why" not in row
    assert run(["weights", "list"]) == 0
    text = capsys.readouterr().out
    assert all(x in text for x in (str(path), NET.sha256, "holiday pictures", "CC-BY-NC-4.0", *SHIPPED))
    assert "only this prefix is published" in text


def test_the_list_names_a_wrong_file_that_the_user_handed_in(capsys, at_home, monkeypatch):
    (at_home / "net.pth").write_bytes(b"another")
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(at_home))
    assert "not the ones recorded" in str(listed(capsys)["net"]["why"])


def test_fetch_from_a_local_file_keeps_a_copy_of_the_right_one_only(capsys, at_home):
    source = at_home / "downloaded elsewhere"
    source.write_bytes(CONTENT[::-1])
    code, line = failed(capsys, ["weights", "fetch", "net", "--from", str(source)])
    assert code == 3 and NET.sha256 in line and hashlib.sha256(CONTENT[::-1]).hexdigest() in line
    assert not (weights_folder() / NET.file).exists()
    source.write_bytes(CONTENT)
    assert run(["weights", "fetch", "net", "--from", str(source)]) == 0
    assert str(weights_folder() / NET.file) in capsys.readouterr().out
    assert (weights_folder() / NET.file).read_bytes() == source.read_bytes() == CONTENT


def test_a_file_that_comes_with_the_package_is_not_fetched_from_elsewhere(capsys, at_home):
    (at_home / "copy").write_bytes(SHIPPED["digits_net"].path.read_bytes())
    code, line = failed(capsys, ["weights", "fetch", "digits_net", "--from", str(at_home / "copy")])
    assert code == 2 and "travel with the package" in line


def test_fetch_finds_what_is_there_and_says_in_one_line_what_is_missing(capsys):
    path = keep(CONTENT)
    assert run(["weights", "fetch", "net", "digits_net"]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == [
        str(path),
        str(SHIPPED["digits_net"].path),
    ]
    code, line = failed(capsys, ["weights", "fetch", "tiny"])
    assert code == 3 and "EVALKIT_OFFLINE" in line and TINY.url in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fetch", "nett"], "did you mean 'net'"),
        (["verify", "nett"], "did you mean 'net'"),
        (["fetch", "net", "tiny", "--from", "x"], "one by one"),
        (["fetch"], "NAME"),
    ],
)
def test_a_wrong_call_is_exit_2(capsys, arguments, says):
    code, line = failed(capsys, ["weights", *arguments])
    assert code == 2 and says in line


@pytest.mark.parametrize(
    ("content", "arguments", "code", "says"),
    [
        (CONTENT, ["net"], 0, "ok     net"),
        (CONTENT, [], 0, "absent tiny"),
        (CONTENT, ["net", "tiny"], 4, "absent tiny"),
        (CONTENT[::-1], ["net"], 3, "BAD    net"),
        (CONTENT[::-1], [], 3, "ok     digits_net"),
        (CONTENT[::-1], ["tiny", "net"], 3, "absent tiny"),
    ],
)
def test_verify_tells_damaged_from_absent_by_its_exit_code(capsys, content, arguments, code, says):
    keep(content)
    assert run(["weights", "verify", *arguments]) == code
    assert says in capsys.readouterr().out
