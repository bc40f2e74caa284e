"""An OpenAI-compatible endpoint: one request a sample, patience with a busy one, and a key that nobody sees."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from evalkit.errors import BadSetting, RunFailed
from generators import chat_endpoint

from .externals import (
    SECRET,
    Said,
    completion,
    fit,
)
from .quick import class_of, drawn, one_line

# The fixtures that stand in for what others made.
pytest_plugins = ("tests.externals",)

# ---------------------------------------------------------------------------------------------- the endpoint


def failing(url: str, **controls: Any) -> str:
    with pytest.raises(RunFailed) as error:
        list(fit("openai", url=url, model="m", **controls).sample(1, 0))
    assert SECRET not in one_line(error) and error.value.__cause__ is None
    return str(error.value)


def asked(said: Said) -> list[dict[str, Any]]:
    return [s for s in said if "path" in s]


def slept(said: Said) -> list[float]:
    return [s["slept"] for s in said if "slept" in s]


def test_each_sample_is_one_request_with_its_own_seed(endpoint: tuple[str, Said]) -> None:
    url, said = endpoint
    said.answers = []
    generator = fit("openai", url=url + "/", model="m", prompt="Hi", temperature=0.3, max_tokens=9)
    assert said == []
    [batch] = generator.sample(3, 5)
    assert batch.conditions == ["Hi"] * 3
    first, second, third = said
    seeds = [s["seed"] for s in said]
    assert seeds == [seeds[0], seeds[0] + 1, seeds[0] + 2]
    assert first["path"] == "/v1/chat/completions" and first["key"] == f"Bearer {SECRET}"
    assert (second["model"], second["temperature"], second["max_tokens"]) == ("m", 0.3, 9)
    assert third["messages"] == [{"role": "user", "content": "Hi"}]
    # Another seed does not start in the middle of this one's requests.
    list(generator.sample(3, 6))
    assert not {s["seed"] for s in said[3:]} & set(seeds)


def test_a_busy_endpoint_is_asked_again_as_late_as_it_says(endpoint: tuple[str, Said]) -> None:
    url, said = endpoint
    generator = fit("openai", url=url, model="m")
    busy = [(429, {"Retry-After": "7"}, b""), (503, {}, b""), (429, {"Retry-After": "9999999"}, b"")]
    said.answers = [*busy, completion(" fine ")]
    assert drawn(generator, 1)[0] == ["fine"]
    assert slept(said) == [7.0, 2.0, 60.0]
    assert len({s["seed"] for s in asked(said)}) == 1
    said.clear()
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    said.answers = [(429, {"Retry-After": soon}, b""), (429, {"Retry-After": "nan"}, b""), completion("fine")]
    list(generator.sample(1, 0))
    assert 25 < slept(said)[0] <= 30 and slept(said)[1] == 2.0


def test_an_endpoint_that_stays_broken_is_given_up(endpoint: tuple[str, Said]) -> None:
    url, said = endpoint
    said.answers = [(500, {}, SECRET.encode())]
    assert "answered 500, asked 5 times" in failing(url)
    assert slept(said) == [1.0, 2.0, 4.0, 8.0]
    assert "gave no answer (Connection refused)" in failing("http://127.0.0.1:9/v1")


def test_a_blank_answer_is_asked_for_again_with_another_seed(endpoint: tuple[str, Said]) -> None:
    url, said = endpoint
    said.answers = [completion(""), completion(None), completion("at last \ud800")]
    assert drawn(fit("openai", url=url, model="m"), 1)[0] == ["at last ?"]
    assert len({s["seed"] for s in asked(said)}) == 3
    said.answers = [completion(" ")]
    assert "blank text" in failing(url)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((200, {}, b"<html>"), "no chat completion"),
        ((200, {}, b'{"choices": []}'), "no chat completion"),
        ((200, {}, b"[" * 100_000), "no chat completion"),
        ((200, {}, b" " * 4_000_001), "more than 4,000,000 bytes"),
        ((401, {}, b'{"error": {"message": "bad key sk-very-secret"}}'), "refused the key"),
        (
            (404, {}, b'{"error": {"message": "no m for sk-very-secret\\u001b[2J\\nx"}}'),
            r"answered 404 \(no m for \*\*\*",
        ),
        ((400, {}, b"nonsense"), r"answered 400 \(Bad Request\)"),
        ((307, {"Location": "http://127.0.0.1:9/elsewhere"}, b""), "redirect"),
    ],
)
def test_an_answer_that_will_not_get_better_is_told_once(
    endpoint: tuple[str, Said], answer: tuple[int, dict[str, str], bytes], why: str
) -> None:
    url, said = endpoint
    said.answers = [answer]
    message = failing(url)
    assert re.search(why, message)
    assert "\x1b" not in message
    assert len(asked(said)) == 1 and slept(said) == []


def test_a_request_has_an_end(endpoint: tuple[str, Said]) -> None:
    url, said = endpoint
    said.answers = [(200, {"Drips": "yes"}, b" " * 200)]
    start = time.monotonic()
    assert "gave no answer (timed out), asked 5 times" in failing(url, timeout=0.2)
    # A byte every 0.05 seconds never lets the socket itself time out.
    assert time.monotonic() - start < 8
    said.answers = [(200, {"Content-Length": "1000"}, completion("cut short")[2]), completion("whole")]
    assert drawn(fit("openai", url=url, model="m"), 1)[0] == ["whole"]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/v1",
        "ftp://localhost/v1",
        "file:///etc/passwd",
        "localhost:8000",
        "https://",
        "https://[::1/v1",
        f"https://user:{SECRET}@example.com/v1",
        f"https://example.com/v1?key={SECRET}",
        "https://example.com/v1\r\nX-Evil: 1",
        "http://localhost.example.com/v1",
        "http://127.0.0.1@example.com/v1",
    ],
)
def test_a_url_that_could_leak_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadSetting) as error:
        class_of("openai")(url=url)
    assert SECRET not in one_line(error)


def test_offline_only_this_machine_is_asked(endpoint: tuple[str, Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    assert drawn(fit("openai", url=endpoint[0], model="m"), 1)[0]
    with pytest.raises(RunFailed, match="EVALKIT_OFFLINE"):
        fit("openai", url="https://example.com/v1", model="m")


@pytest.mark.parametrize("key", ["sk-\nX-Evil: 1", "sk-\u00e9", "sk-\x00"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(
    key: str, endpoint: tuple[str, Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "\0" in key:
        monkeypatch.setattr(chat_endpoint.os, "environ", {"EVALKIT_API_KEY": key})
    else:
        monkeypatch.setenv("EVALKIT_API_KEY", key)
    with pytest.raises(BadSetting, match="EVALKIT_API_KEY") as error:
        fit("openai", url=endpoint[0], model="m")
    assert "sk-" not in one_line(error)
    assert endpoint[1] == []


def test_without_a_key_none_is_sent(endpoint: tuple[str, Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVALKIT_API_KEY")
    list(fit("openai", url=endpoint[0], model="m").sample(1, 0))
    assert endpoint[1][0]["key"] is None
