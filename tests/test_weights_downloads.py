"""Fetching weights over https: the right file arrives whole and private, and nothing else ever stays on disk."""

from __future__ import annotations

import hashlib
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evalkit import downloads
from evalkit.downloads import Unreachable, download
from evalkit.errors import RunFailed
from evalkit.weights import Weights, load_weights, obtain, weights_folder

BODY = bytes(range(256)) * 10_000  # 2.5 MB: several chunks
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server:
    """An https server on this machine whose paths misbehave in one way each; `asked` lists what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "certificate.pem"
        key = folder / "key.pem"
        command = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
        )
        names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(self.certificate)]
        subprocess.run([*command.split(), *names], check=True, capture_output=True)
        self.asked: list[str] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        # Clients hang up on purpose here; the server need not say so on stderr.
        self._http.handle_error = lambda request, address: None  # type: ignore[method-assign]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.url = f"https://localhost:{self._http.server_port}"
        self.trust = ssl.create_default_context(cafile=str(self.certificate))
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                getattr(self, "do" + self.path.replace("/", "_").partition(".")[0])()

            def log_message(self, *_) -> None:
                pass

            def send(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if length is not None:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def do_whole(self) -> None:
                self.send(200, BODY, len(BODY))

            def do_unannounced(self) -> None:
                self.send(200, BODY)

            def do_other(self) -> None:
                self.send(200, BODY[::-1], len(BODY))

            def do_truncated(self) -> None:
                self.send(200, BODY[: len(BODY) // 2], len(BODY))

            def do_oversized(self) -> None:
                self.send(200, BODY + b"and more", len(BODY) + 8)

            def do_endless(self) -> None:
                self.send(200)
                try:
                    while True:
                        self.wfile.write(BODY)
                except OSError:
                    server.asked.append("hung up")

            def do_gone(self) -> None:
                self.send(404, b"", 0)

            def do_moved(self) -> None:
                self.send(302, b"", 0, Location="/whole.bin")

            def do_plain(self) -> None:
                self.send(302, b"", 0, Location=server.url.replace("https", "http") + "/whole.bin")

            def do_file(self) -> None:
                self.send(302, b"", 0, Location="file:///etc/hostname")

            def do_circle(self) -> None:
                self.send(302, b"", 0, Location="/circle.bin")

            def do_silent(self) -> None:
                self.send(200, BODY[:100], len(BODY))
                self.wfile.flush()
                closing.wait(10)

        return Handler


closing = threading.Event()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    server = Server(tmp_path_factory.mktemp("https"))
    yield server
    closing.set()
    server.close()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "EVALKIT_WEIGHTS", "EVALKIT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HF_HUB_OFFLINE", "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "evalkit"))
    return tmp_path


def record_of(server: Server, path: str = "whole.bin", **changed) -> Weights:
    facts = {"sha256": SHA256, "size": len(BODY), "licence": "Apache-2.0", "trained_on": "nothing"}
    return Weights(file=path, url=f"{server.url}/{path}", **{**facts, **changed})


def left(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


# ---------------------------------------------------------------------------------------------- what arrives


@pytest.mark.parametrize("path", ["whole", "unannounced", "moved"])
@pytest.mark.parametrize("size", [0, len(BODY)])
def test_the_right_file_arrives_whole(server, tmp_path, path, size):
    target = tmp_path / "new" / "net.bin"
    assert download(f"{server.url}/{path}.bin", target, SHA256, size=size, context=server.trust) == target
    assert target.read_bytes() == BODY and left(tmp_path / "new") == ["net.bin"]


def test_a_published_prefix_of_the_digest_is_checked(server, tmp_path):
    target = tmp_path / "net.bin"
    download(f"{server.url}/whole.bin", target, SHA256[:8], context=server.trust)
    with pytest.raises(RunFailed, match="another file"):
        download(f"{server.url}/other.bin", target, SHA256[:8], context=server.trust)
    assert target.read_bytes() == BODY


class Shown:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.finished = 0

    def start(self, task: str, total: int) -> None:
        self.told.append((task, total))

    def advance(self, n: int = 1) -> None:
        self.told.append(("advance", n))

    def finish(self) -> None:
        self.finished += 1


def test_progress_counts_the_bytes(server, tmp_path):
    shown = Shown()
    download(f"{server.url}/whole.bin", tmp_path / "net.bin", SHA256, progress=shown, context=server.trust)
    (task, total), *steps = shown.told
    assert "whole.bin" in task and total == len(BODY) == sum(n for _, n in steps)
    assert len(steps) > 2 and shown.finished == 1


def test_eight_at_once_leave_one_file(server, tmp_path):
    target = tmp_path / "kept" / "net.bin"
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(download, f"{server.url}/whole.bin", target, SHA256, context=server.trust) for _ in range(8)
        ]
        assert {job.result() for job in jobs} == {target}
    assert target.read_bytes() == BODY and left(target.parent) == ["net.bin"]


# ---------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("path", "size", "says"),
    [
        ("other", len(BODY), f"another file: expected sha256 {SHA256}"),
        ("truncated", len(BODY), "broke off|cannot be fetched"),
        ("truncated", 0, "broke off|cannot be fetched"),
        ("oversized", len(BODY), f"offers {len(BODY) + 8} bytes; expected {len(BODY)}"),
        ("endless", len(BODY), f"more than the expected {len(BODY)} bytes"),
        ("unannounced", len(BODY) + 1, "broke off"),
        ("whole", len(BODY) - 1, f"offers {len(BODY)} bytes"),
        ("gone", len(BODY), "404"),
        ("plain", len(BODY), "not https"),
        ("file", len(BODY), "not https|not allowed"),
        ("circle", len(BODY), "infinite loop"),
    ],
)
def test_everything_else_is_refused_in_one_line_and_leaves_nothing(server, tmp_path, path, size, says):
    with pytest.raises(RunFailed, match=says) as refusal:
        download(f"{server.url}/{path}.bin", tmp_path / "kept" / "net.bin", SHA256, size=size, context=server.trust)
    assert left(tmp_path / "kept") == []
    assert "\n" not in str(refusal.value)


def test_a_body_without_end_is_not_read_to_its_end(server, tmp_path):
    before = server.asked.count("hung up")
    with pytest.raises(RunFailed, match="more than"):
        download(f"{server.url}/endless.bin", tmp_path / "net.bin", SHA256, size=1000, context=server.trust)
    for _ in range(100):
        if server.asked.count("hung up") > before:
            return
        threading.Event().wait(0.05)
    pytest.fail("the server is still sending")


def test_plain_http_is_not_even_asked(server, tmp_path):
    asked = len(server.asked)
    with pytest.raises(RunFailed, match="not https"):
        download(server.url.replace("https", "http") + "/whole.bin", tmp_path / "net.bin", SHA256)
    assert len(server.asked) == asked


def test_an_unknown_certificate_is_not_trusted(server, tmp_path):
    asked = len(server.asked)
    with pytest.raises(Unreachable, match=r"(?i)certificate.verify.failed"):
        download(f"{server.url}/whole.bin", tmp_path / "net.bin", SHA256)
    assert len(server.asked) == asked and left(tmp_path) == []


def test_a_server_that_falls_silent_is_left(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "SECONDS", 0.3)
    with pytest.raises(Unreachable, match="timed out"):
        download(f"{server.url}/silent.bin", tmp_path / "net.bin", SHA256, size=len(BODY), context=server.trust)
    assert left(tmp_path) == []


def test_an_interruption_leaves_no_file_and_ends_the_progress(server, tmp_path):
    class Impatient(Shown):
        def advance(self, n: int = 1) -> None:
            raise KeyboardInterrupt

    shown, target = Impatient(), tmp_path / "kept" / "net.bin"
    with pytest.raises(KeyboardInterrupt):
        download(f"{server.url}/whole.bin", target, SHA256, progress=shown, context=server.trust)
    assert left(tmp_path / "kept") == [] and shown.finished == 1


def test_the_proxy_of_the_environment_is_asked(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        heard = []

        def answer() -> None:
            connection, _ = proxy.accept()
            with connection:
                heard.append(connection.recv(1000))
                connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unreachable, match="502"):
            download("https://weights.invalid/net.bin", tmp_path / "net.bin", SHA256)
        thread.join(10)
    assert heard[0].startswith(b"CONNECT weights.invalid:443")


# ---------------------------------------------------------------------------------------------- obtain


def test_obtain_fetches_once_into_a_private_folder(server, home, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    record = record_of(server)
    asked = len(server.asked)
    assert obtain(record) == obtain(record) == weights_folder() / "whole.bin"
    assert len(server.asked) == asked + 1
    for folder in (weights_folder(), weights_folder().parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_damaged_file_in_our_cache_is_replaced(server, home, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    weights_folder().mkdir(parents=True)
    (weights_folder() / "whole.bin").write_bytes(BODY[::-1])
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    with pytest.raises(RunFailed, match="the one in the cache is another file"):
        obtain(record_of(server))
    monkeypatch.setenv("EVALKIT_OFFLINE", "0")
    assert obtain(record_of(server)).read_bytes() == BODY


def test_an_unreachable_server_is_one_line_with_everything_to_do(server, home, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    record = record_of(server, "gone.bin")
    with pytest.raises(RunFailed) as refusal:
        obtain(record)
    line = str(refusal.value)
    assert all(x in line for x in ("404", record.sha256, record.url, str(weights_folder()), "EVALKIT_WEIGHTS"))
    assert "\n" not in line and "random_conv" not in line


def test_fetched_bytes_that_are_no_network_are_refused(server, home, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    with pytest.raises(RunFailed, match="cannot be read as tensors"):
        load_weights(record_of(server))
