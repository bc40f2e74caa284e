"""A small server for one person at this machine: pages on 127.0.0.1 behind a token, with nothing to fetch elsewhere.

Standard library only. What it defends against, and how: other users and programs (a random token is the first part of
every path, compared in constant time); a foreign page in the same browser (the Host header must name this address, so
that a name rebound to 127.0.0.1 gets nothing; a POST must come from this origin); text in the data that wants to be a
script (Content-Security-Policy by hashes; types are not sniffed); large or slow requests (a limit on the body, a time
limit on the socket). Nothing is cached and no address is passed on as referrer.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, TypeAlias
from urllib.parse import parse_qsl, urlsplit

HOST = "127.0.0.1"
MOST_BODY = 64 * 1024
MOST_QUERY = 4096
PATIENCE = 30.0  # seconds a connection may be silent
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@dataclass(frozen=True)
class Request:
    """What an application is asked: `path` is what stands behind the token, still percent-encoded."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """What it answers; `policy` is the Content-Security-Policy of this one answer."""

    status: int
    body: bytes
    kind: str = "text/plain; charset=utf-8"
    policy: str = NOTHING


Application: TypeAlias = Callable[[Request], Reply]

_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')


def page(html: str) -> Reply:
    """A page of ours under the policy that its own head states, which no other page may frame."""
    stated = _POLICY.search(html[:4096])
    policy = f"{unescape(stated.group(1))}; frame-ancestors 'none'" if stated else NOTHING
    return Reply(200, html.encode("utf-8", "backslashreplace"), "text/html; charset=utf-8", policy)


def refusal(status: int, words: str) -> Reply:
    """An answer that says in one line why there is none."""
    return Reply(status, f"{words}\n".encode())


class LocalServer:
    """One application on 127.0.0.1 behind a random token; port 0 takes a free one.

    `url` is what a person opens. `serve` answers until `close` is called from another thread or an exception ends it.
    Raises OSError when the port is taken.
    """

    def __init__(self, application: Application, *, port: int = 0, token: str | None = None) -> None:
        self.token = secrets.token_urlsafe(24) if token is None else token
        handler = type("Handler", (_Handler,), {"application": staticmethod(application), "token": self.token})
        self._server = _Server((HOST, port), handler)
        self.port = int(self._server.server_address[1])
        self.url = f"http://{HOST}:{self.port}/{self.token}/"

    def serve(self) -> None:
        """Answer requests, each in a thread of its own."""
        try:
            self._server.serve_forever(poll_interval=0.1)
        finally:
            self._server.server_close()

    def close(self) -> None:
        """Let `serve` return."""
        self._server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that hangs up in the middle is no event."""


class _Handler(BaseHTTPRequestHandler):
    application: ClassVar[Application]
    token: ClassVar[str]
    timeout = PATIENCE
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "evalkit", ""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not length.isascii() or not length.isdigit():
            self._send(refusal(411, "a body needs its Content-Length"), close=True)
        elif int(length) > MOST_BODY:
            self._send(refusal(413, f"the body has {length} bytes; at most {MOST_BODY} are read"), close=True)
        else:
            self._answer(self.rfile.read(int(length)))

    def _answer(self, body: bytes) -> None:
        target = urlsplit(self.path)
        given, slash, path = target.path.removeprefix("/").partition("/")
        if (refused := self._refused(given)) is not None:
            self._send(refused, close=True)
            return
        if not slash or len(target.query) > MOST_QUERY:
            self._send(refusal(404, "there is nothing here"))
            return
        query = dict(parse_qsl(target.query, keep_blank_values=True, max_num_fields=20, errors="surrogateescape"))
        method = "GET" if self.command == "HEAD" else self.command
        try:
            reply = type(self).application(Request(method, path, query, body))
        except Exception as error:  # A bug of ours must not leave a browser waiting; the words carry no data.
            reply = refusal(500, f"the server failed: {type(error).__name__}")
        self._send(reply)

    def _refused(self, given: str) -> Reply | None:
        """Why this request is none of ours; the same answer for each reason, so that nothing can be learnt from it."""
        port = self.server.server_address[1]  # type: ignore[index]
        here = {f"{HOST}:{port}", f"localhost:{port}"}
        host = self.headers.get("Host", "")
        ours = host in here and hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())
        if self.command == "POST":
            plain = self.headers.get("Content-Type", "").partition(";")[0].strip() == "application/json"
            ours = ours and plain and self.headers.get("Origin", "") == f"http://{host}"
        return None if ours else refusal(403, "not allowed: open the address that the command printed")

    def _send(self, reply: Reply, close: bool = False) -> None:
        self.send_response(reply.status)
        for name, value in (
            ("Content-Type", reply.kind),
            ("Content-Length", str(len(reply.body))),
            ("Content-Security-Policy", reply.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
            *((("Connection", "close"),) if close else ()),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the address holds the token, and a terminal's scroll-back outlives the study."""
