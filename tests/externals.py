"""Stand-ins for what others made: a program, a pipeline, a language model, an endpoint."""

from __future__ import annotations

import json
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evalkit.samples.embedded import open_embedded
from generators import chat_endpoint

from .quick import class_of

DIGITS, PROSE = "embedded:digits/train", "embedded:prose/train"
SECRET = "sk-very-secret"


def fit(name: str, **controls: int | float | str) -> Any:
    generator = class_of(name)(**controls)
    generator.fit(open_embedded(DIGITS if generator.modality == "image" else PROSE), seed=0)
    return generator


def pictures(folder: Path, n: int, size: int = 8, group: str = "") -> Path:
    (folder / group).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        pixels = np.random.default_rng(i).integers(0, 255, (size, size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / group / f"{group}{i:03d}.png")
    return folder


SCRIPT = """
import argparse, pathlib, random, sys
p = argparse.ArgumentParser()
for name, kind in (("--n", int), ("--seed", int), ("--out", pathlib.Path)):
    p.add_argument(name, type=kind)
a = p.parse_args()
chance = random.Random(a.seed)
for i in range(a.n):
    (a.out / f"{i:05d}.txt").write_text(f"text {chance.random()}")
"""


def script(folder: Path, body: str = SCRIPT, name: str = "my model.py") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(body)
    return f"'{sys.executable}' '{folder / name}' --n {{n}} --seed {{seed}} --out {{out}}"


class Said(list):
    """What an endpoint was asked, and what it answers: (status, headers, body) each, the last one for ever."""

    answers: list[tuple[int, dict[str, str], bytes]]


def completion(text: str | None) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"choices": [{"message": {"content": text}}]}).encode()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Said]]:
    """A server on this machine and what it was asked; without answers it echoes prompt and seed."""
    said = Said()
    said.answers = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said.append({"path": self.path, "key": self.headers.get("Authorization"), **asked})
            text = f"{asked['messages'][0]['content']} / {asked['seed']}"
            answers = said.answers
            status, headers, body = (
                (answers.pop(0) if len(answers) > 1 else answers[0]) if answers else completion(text)
            )
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            for at in range(0, len(body), 1 if "Drips" in headers else 1 << 20):
                self.wfile.write(body[at : at + (1 if "Drips" in headers else 1 << 20)])
                time.sleep(0.05 if "Drips" in headers else 0)

        def log_message(self, *given: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *given: None  # A client that hangs up is what some tests are about.
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    monkeypatch.setenv("EVALKIT_API_KEY", SECRET)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(chat_endpoint, "sleep", lambda s: said.append({"slept": s}))
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", said
    server.shutdown()
    server.server_close()


class StubPipeline:
    """What Diffusers asks of a pipeline; an image is one number drawn from its own generator."""

    calls: list[dict[str, Any]]

    @classmethod
    def download(cls, model: str, **only: Any) -> str:
        cls.calls.append({"download": model, **only})
        raise OSError(f"{model} cannot be had")

    @classmethod
    def from_pretrained(cls, model: str, **only: Any) -> StubPipeline:
        cls.calls.append({"load": model, **only})
        return cls()

    def to(self, device: str) -> StubPipeline:
        self.calls.append({"to": device})
        return self

    def set_progress_bar_config(self, *, disable: bool) -> None:
        self.calls.append({"quiet": disable})

    def __call__(
        self,
        prompt: list[str],
        generator: list[torch.Generator],
        num_inference_steps: int,
        guidance_scale: float,
        output_type: str,
    ) -> Any:
        assert output_type == "np" and len(prompt) == len(generator)
        self.calls.append({"prompt": prompt, "steps": num_inference_steps, "guidance": guidance_scale})
        images = [torch.rand(1, generator=g).expand(4, 4, 3).numpy() for g in generator]
        return types.SimpleNamespace(images=np.stack(images))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[StubPipeline]:
    StubPipeline.calls = []
    library = types.ModuleType("diffusers")
    library.DiffusionPipeline = StubPipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "diffusers", library)
    return StubPipeline


class StubLm:
    """A language model whose next token is uniform over 26 letters, drawn from torch's global state."""

    calls: list[dict[str, Any]]
    bos_token_id, eos_token_id, pad_token_id = 26, 27, None
    blank_first = False

    @classmethod
    def from_pretrained(cls, model: str, **only: Any) -> StubLm:
        cls.calls.append({"load": model, **only})
        return cls()

    def eval(self) -> StubLm:
        return self

    def to(self, device: str) -> StubLm:
        return self

    def __call__(self, text: str, return_tensors: str) -> Any:
        return types.SimpleNamespace(input_ids=torch.tensor([[ord(c) % 26 for c in text]]))

    def generate(self, input_ids: torch.Tensor, **settings: Any) -> torch.Tensor:
        self.calls.append({"asked": tuple(input_ids.shape), **settings})
        made = torch.randint(26, (len(input_ids), settings["max_new_tokens"]))
        if self.blank_first:
            made[0] = 27
        return torch.cat([input_ids, made], 1)

    def batch_decode(self, ids: torch.Tensor, skip_special_tokens: bool) -> list[str]:
        return ["".join(chr(97 + i) if i < 26 else " " for i in row) for row in ids.tolist()]


@pytest.fixture
def stub_lm(monkeypatch: pytest.MonkeyPatch) -> type[StubLm]:
    StubLm.calls = []
    library = types.ModuleType("transformers")
    library.AutoTokenizer = library.AutoModelForCausalLM = StubLm  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", library)
    return StubLm


@pytest.fixture
def works(
    tmp_path: Path, endpoint: tuple[str, Said], stub: type[StubPipeline], stub_lm: type[StubLm]
) -> Callable[[str], dict[str, Any]]:
    """Settings under which each of them works."""
    (tmp_path / "prompts.txt").write_text("a cat\n\na dog\n")
    (tmp_path / "hub").mkdir()
    prompts, hub = str(tmp_path / "prompts.txt"), str(tmp_path / "hub")
    settings = {
        "folder": {"path": str(pictures(tmp_path / "mine", 70))},
        "command": {"command": script(tmp_path / "its place"), "modality": "text"},
        "diffusers": {"model": hub, "prompts": prompts},
        "transformers": {"model": hub, "prompt": "Once", "max_new_tokens": 12},
        "openai": {"url": endpoint[0], "model": "m", "prompts": prompts},
    }
    return settings.__getitem__
