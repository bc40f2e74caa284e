"""Any language model behind an OpenAI-compatible HTTP endpoint (POST .../chat/completions).

- Off until a url is given, and it sends prompts only: nothing of the training samples leaves this machine. With
  EVALKIT_OFFLINE set, only this machine itself is asked.
- The key is read from the environment variable EVALKIT_API_KEY for each request. It is in no setting, card, error or
  log; it goes to the one given host, over https (plain http to this machine only), and no redirect is followed.
- Request i carries the seed base + i; how far the endpoint honours it is its own affair. Many do not, and a model may
  change behind its name: then the same seed is not the same samples, and the record's date is what tells them apart.
- Answers 429 and 5xx and a broken connection are asked again, after as long as Retry-After says or 1, 2, 4, 8 seconds.
  A blank answer is asked for again with another seed.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any, ClassVar
from urllib.parse import urlsplit

import torch

from evalkit.errors import BadSetting, RunFailed
from evalkit.types import Batch, Control

from ._external import External, base_seed, is_off, line_of, read_prompts

KEY = "EVALKIT_API_KEY"
TRIES = 5
LONGEST_WAIT = 60.0
MOST_BYTES = 4_000_000
# Seeds of one set are consecutive; another try at a blank answer must not meet its neighbour's.
ANOTHER = 1_000_003
LOCAL = ("localhost", "127.0.0.1", "::1")


class _Again(Exception):
    """An answer worth asking for again, after `wait` seconds where the endpoint says so."""

    def __init__(self, why: str, wait: float | None = None, *, is_blank: bool = False) -> None:
        super().__init__(why)
        self.wait, self.is_blank = wait, is_blank


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *given: Any, **named: Any) -> None:
        """None: a redirect is an error, or the key would go to whomever it names."""


class ChatEndpoint(External):
    """Texts of a language model behind an OpenAI-compatible HTTP endpoint."""

    name = "openai"
    costly = True
    modality = "text"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("url", "", "base url of the endpoint, e.g. https://host/v1; empty for off"),
        Control("model", "", "the model's name at the endpoint"),
        Control("prompt", "Write a short paragraph of English prose.", "what every text is asked for with"),
        Control("prompts", "", "text file with one prompt a line, taken in turn instead of `prompt`"),
        Control("temperature", 1.0, "below 1 plays safe, above 1 takes risks", 0, 10),
        Control("max_tokens", 256, "longest text, in tokens", 1, 100_000),
        Control("timeout", 120.0, "seconds that one request may take", 0.01, 100_000),
    )

    def __init__(self, **controls: int | float | str) -> None:
        super().__init__(**controls)
        if self._settings["url"]:
            _check_url(str(self._settings["url"]))

    def _ready(self) -> None:
        url = str(self._settings["url"])
        if not url:
            raise BadSetting("openai is switched off; give an endpoint to switch it on: --set url=https://HOST/v1")
        if not self._settings["model"]:
            raise BadSetting("openai.model is empty; give the model's name at the endpoint: --set model=NAME")
        if is_off("EVALKIT_OFFLINE") and not _is_local(url):
            raise RunFailed(f"openai.url = {url!r}: the network is switched off by EVALKIT_OFFLINE; unset it first")
        _key()
        self._prompts()

    def _prompts(self) -> list[str]:
        return read_prompts(self.name, str(self._settings["prompts"])) or [str(self._settings["prompt"])]

    def _named_files(self) -> Mapping[str, Path]:
        prompts = str(self._settings["prompts"])
        return {"prompts": Path(prompts)} if prompts else {}

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        prompts, base = self._prompts(), base_seed(rng)
        asked = [prompts[i % len(prompts)] for i in range(start, start + count)]
        return Batch([self._answer(p, base + start + i) for i, p in enumerate(asked)], None, asked)

    def _answer(self, prompt: str, seed: int) -> str:
        why = ""
        for attempt in range(TRIES):
            try:
                return self._once(prompt, seed)
            except _Again as again:
                why = str(again)
                seed += ANOTHER if again.is_blank else 0
                if attempt + 1 < TRIES and not again.is_blank:
                    sleep(min(LONGEST_WAIT, 2.0**attempt if again.wait is None else again.wait))
        raise RunFailed(f"{self._settings['url']} {why}, asked {TRIES} times; try again later or ask another endpoint")

    def _once(self, prompt: str, seed: int) -> str:
        """One request and its text; _Again where it is worth another, RunFailed where it is not."""
        url, timeout = str(self._settings["url"]), float(self._settings["timeout"])
        deadline = monotonic() + timeout
        try:
            with _opener(url).open(self._request(prompt, seed), timeout=timeout) as response:
                body = _read(response, deadline, url)
        except urllib.error.HTTPError as e:
            with e:
                raise _refused(e, url) from None
        except (OSError, http.client.HTTPException) as e:
            reason = e.reason if isinstance(e, urllib.error.URLError) else e
            raise _Again(f"gave no answer ({_told(reason)})") from None
        return _text(body, url)

    def _request(self, prompt: str, seed: int) -> urllib.request.Request:
        asked = {
            "model": self._settings["model"],
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self._settings["temperature"],
            "max_tokens": self._settings["max_tokens"],
            "seed": seed,
        }
        url = str(self._settings["url"]).rstrip("/")
        url += "" if url.endswith("/chat/completions") else "/chat/completions"
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "evalkit"}
        request = urllib.request.Request(url, json.dumps(asked).encode(), headers, method="POST")
        if key := _key():
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        return request


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise BadSetting("openai.url is not a url; expected https://HOST/v1") from None
    # None of these is echoed: what is refused may hold a key.
    if parts.username is not None or parts.query or parts.fragment:
        raise BadSetting(f"openai.url holds more than host and path; put the key into {KEY}, never into the url")
    if not is_whole or not url.isprintable() or any(c.isspace() for c in url):
        raise BadSetting("openai.url is not a url; expected https://HOST/v1")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_local(url)):
        raise BadSetting(f"openai.url = {url!r}; expected https:// (http:// is for localhost only)")


def _is_local(url: str) -> bool:
    return urlsplit(url).hostname in LOCAL


def _key() -> str:
    """The key, or "" for none; BadSetting where it cannot be sent, because http.client would say it aloud."""
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and (key.isprintable() or not key)):
        raise BadSetting(f"{KEY} holds characters that no key has; set it again")
    return key


def _opener(url: str) -> urllib.request.OpenerDirector:
    # This machine is asked directly, whatever proxy the environment names.
    direct = [urllib.request.ProxyHandler({})] if _is_local(url) else []
    return urllib.request.build_opener(_NoRedirects, *direct)


def _read(response: Any, deadline: float, url: str) -> bytes:
    parts: list[bytes] = []
    while chunk := response.read1(65_536):
        parts.append(chunk)
        if sum(map(len, parts)) > MOST_BYTES:
            raise RunFailed(f"{url} answered with more than {MOST_BYTES:,} bytes; lower max_tokens or check the url")
        # The socket's own timeout starts anew with every byte.
        if monotonic() > deadline:
            raise TimeoutError("timed out")
    if response.length:
        # read1 takes the end of the connection for the end of the answer.
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(parts)


def _refused(error: urllib.error.HTTPError, url: str) -> Exception:
    """What an answer that is no success means: ask again, or stop."""
    code = error.code
    if code == 429 or code >= 500:
        return _Again(f"answered {code}", _wait(error.headers.get("Retry-After")))
    if code in (401, 403):
        # Not what it said of it: some endpoints repeat the key.
        return RunFailed(f"{url} refused the key (answered {code}); set {KEY} to one that may use this model")
    if 300 <= code < 400:
        return RunFailed(f"{url} answered {code}, a redirect, which is not followed; give the url that it leads to")
    try:
        said = json.loads(error.read(65_536))["error"]["message"]
    except (OSError, http.client.HTTPException, ValueError, RecursionError, KeyError, TypeError):
        said = error.reason
    return RunFailed(f"{url} answered {code} ({_told(said)}); check openai.url, model and prompt")


def _wait(said: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date."""
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(said).timestamp() - time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _told(said: object) -> str:
    """One line of what the endpoint said, without the key."""
    line, key = line_of(said, 100_000), _key()
    return (line.replace(key, "***") if key else line)[:200]


def _text(body: bytes, url: str) -> str:
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError):
        raise RunFailed(f"{url} answered with what is no chat completion; check that it is OpenAI-compatible") from None
    # Half a surrogate pair is valid JSON and no text.
    text = content.encode("utf-8", "replace").decode().strip() if isinstance(content, str) else ""
    if not text:
        raise _Again("answered with a blank text", is_blank=True)
    return text
