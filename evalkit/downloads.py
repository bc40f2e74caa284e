"""A file from the network, whole or not at all: https only, no byte too many, renamed into place when it is right."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from .cache import beside
from .errors import RunFailed

if TYPE_CHECKING:
    from .types import Progress


class Unreachable(RunFailed):
    """The server could not be reached, answered with an error, or fell silent."""


SECONDS = 30.0  # without a byte before a server counts as gone
CHUNK = 1 << 20  # bytes
LARGEST = 16 << 30  # bytes read where no size is recorded


def download(
    url: str,
    target: Path,
    sha256: str,
    *,
    size: int = 0,
    progress: Progress | None = None,
    context: ssl.SSLContext | None = None,
) -> Path:
    """Fetch `url` to `target`; nothing is left behind unless the content is the expected one.

    sha256: hex digest or its published prefix. size: bytes, 0 when unknown; a body of another length is refused.
    context: how the server's certificate is checked, the system's way by default. Raises Unreachable when nothing could
    be had, RunFailed when the url or a redirect is not https or something else than expected was sent.
    """
    _only_https(url)
    with beside(target) as draft:
        try:
            with _opener(context).open(url, timeout=SECONDS) as response, draft.open("wb") as file:
                found = _copy(response, file, url, size, progress)
        except HTTPError as error:
            raise Unreachable(f"{url} answered {error.code} {_line(error.reason)}") from error
        except (URLError, OSError, http.client.HTTPException) as error:
            reason = _line(getattr(error, "reason", None) or error)
            raise Unreachable(f"{url} cannot be fetched ({reason})") from error
        if not found.startswith(sha256):
            raise RunFailed(f"{url} sent another file: expected sha256 {sha256}, found {found}; nothing was kept")
    return target


def _copy(response: Any, file: IO[bytes], url: str, size: int, progress: Progress | None) -> str:
    """The body's digest; RunFailed as soon as it is longer than announced, or ends before."""
    announced = response.length or 0
    if size and announced and announced != size:
        raise RunFailed(f"{url} offers {announced} bytes; expected {size}; nothing was kept")
    expected, read, digest = size or announced, 0, hashlib.sha256()
    # One byte more than expected is asked for: a server that goes on is noticed, and not followed.
    most = (expected or LARGEST) + 1
    with _reported(progress, f"fetch {urlsplit(url).path.rpartition('/')[2]}", expected) as advance:
        while chunk := response.read(min(CHUNK, most - read)):
            read += len(chunk)
            if read == most:
                raise RunFailed(f"{url} sends more than the expected {most - 1} bytes; nothing was kept")
            file.write(chunk)
            digest.update(chunk)
            advance(len(chunk))
    if expected and read != expected:
        raise Unreachable(f"{url} broke off after {read} of {expected} bytes; nothing was kept")
    return digest.hexdigest()


@contextmanager
def _reported(progress: Progress | None, task: str, total: int) -> Iterator[Callable[[int], None]]:
    if progress is None:
        yield lambda n: None
        return
    progress.start(task, total)
    try:
        yield progress.advance
    finally:
        progress.finish()


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to https: the digest guards the content, this guards who learns what is asked for."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _only_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(context: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    # build_opener adds the proxies of the environment; its http handler stays unused, see _only_https.
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context or ssl.create_default_context()), _HttpsRedirects()
    )
    opener.addheaders = [("User-Agent", "evalkit"), ("Accept-Encoding", "identity")]
    return opener


def _line(reason: object) -> str:
    return " ".join(str(reason).split())


def _only_https(url: str) -> None:
    if urlsplit(url).scheme != "https":
        raise RunFailed(f"{url} is not https; weights are fetched over https only")


def is_offline(environment: Mapping[str, str]) -> bool:
    """Whether EVALKIT_OFFLINE or HF_HUB_OFFLINE forbids the network."""
    words = (environment.get(name, "").strip().lower() for name in ("EVALKIT_OFFLINE", "HF_HUB_OFFLINE"))
    return any(word in ("1", "true", "yes", "on") for word in words)
