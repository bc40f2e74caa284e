"""Models made elsewhere: their seat on the board, and what happens when folder, command, hub or endpoint misbehave."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
import types
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, RunFailed, TooFewSamples
from evalkit.generation import trained
from evalkit.measurement import Bench
from evalkit.samples.embedded import open_embedded
from evalkit.types import Generator
from generators import chat_endpoint

from .data import shared
from .quick import EXTERNAL, class_of, drawn, one_line

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


# ---------------------------------------------------------------------------------------------- stand-ins

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


# ---------------------------------------------------------------------------------------------- the seat


@pytest.mark.parametrize("name", EXTERNAL)
def test_every_external_model_takes_the_same_seat(name: str, works: Callable[..., Any], tmp_path: Path) -> None:
    generator = fit(name, **works(name))
    assert isinstance(generator, Generator)
    assert (generator.name, generator.role, generator.parameters) == (name, "candidate", 0)
    assert set(generator.settings) == {c.name for c in generator.controls}
    assert generator.trained_on == open_embedded(DIGITS if generator.modality == "image" else PROSE).digest
    batches = list(generator.sample(70, 3))
    assert [len(b.items) for b in batches] == [64, 6]
    assert drawn(generator, 70, 5) == drawn(generator, 70, 5)
    assert drawn(generator, 70, 5) != drawn(generator, 70, 6)
    generator.save(tmp_path / "model")
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["settings"] == generator.settings
    assert SECRET not in (tmp_path / "model" / "card.json").read_text()
    again = class_of(name)(**card["settings"])
    again.load(tmp_path / "model")
    assert (again.modality, again.recipe) == (generator.modality, generator.recipe)
    assert drawn(again, 70, 5) == drawn(generator, 70, 5)


@pytest.mark.parametrize("name", EXTERNAL)
def test_the_callers_chance_is_untouched_by_an_external_model(name: str, works: Callable[..., Any]) -> None:
    torch.manual_seed(7)
    generator = fit(name, **works(name))
    for _ in generator.sample(3, 0):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    mine = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(mine, torch.rand(3))


@pytest.mark.parametrize("name", EXTERNAL)
def test_without_settings_each_says_what_it_wants_in_one_line(name: str, works: Callable[..., Any]) -> None:
    generator = class_of(name)()
    assert generator.recipe != class_of(name)(**works(name)).recipe
    with pytest.raises(BadSetting) as error:
        fit(name)
    assert name in one_line(error)
    with pytest.raises(BadSetting, match="learned nothing"):
        class_of(name)(**works(name)).sample(1, 0)
    other = open_embedded(PROSE if generator.modality == "image" else DIGITS)
    with pytest.raises(ModalityMismatch):
        class_of(name)().fit(other, seed=0)


@pytest.mark.parametrize("name", ["diffusers", "transformers"])
def test_a_missing_library_is_named_with_its_extra(
    name: str, works: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RunFailed) as error:
        list(fit(name, **works(name)).sample(1, 0))
    assert f"pip install 'evalkit[{name}]'" in one_line(error)


def test_what_a_setting_names_is_part_of_the_identity(works: Callable[..., Any], tmp_path: Path) -> None:
    before = {name: class_of(name)(**works(name)).recipe for name in EXTERNAL}
    assert before == {name: class_of(name)(**works(name)).recipe for name in EXTERNAL}
    for path in (tmp_path / "mine" / "000.png", tmp_path / "its place" / "my model.py", tmp_path / "prompts.txt"):
        path.write_bytes(path.read_bytes() + b"\n")
    (tmp_path / "hub" / "config.json").write_text("{}")
    after = {name: class_of(name)(**works(name)).recipe for name in EXTERNAL}
    assert all(before[name] != after[name] for name in EXTERNAL)


# ---------------------------------------------------------------------------------------------- folder


def test_a_folder_is_dealt_once_in_a_seeded_order_with_its_labels(tmp_path: Path) -> None:
    pictures(tmp_path, 5, group="cat")
    pictures(tmp_path, 4, group="dog")
    pictures(tmp_path / ".hidden", 3)
    (tmp_path / "set.json").write_text("{}")
    generator = fit("folder", path=str(tmp_path))
    items, groups = drawn(generator, 9)
    real = {
        (np.asarray(Image.open(p)).tobytes(), p.parent.name)
        for p in tmp_path.rglob("*.png")
        if ".hidden" not in p.parts
    }
    assert len(real) == 9 and set(zip(items, groups, strict=True)) == real
    assert drawn(generator, 4)[0] == items[:4]
    with pytest.raises(TooFewSamples, match=r"10 samples asked of folder, .* holds 9"):
        generator.sample(10, 0)


def test_a_folder_holds_texts_too_and_is_found_by_its_name(tmp_path: Path) -> None:
    for i in range(6):
        (tmp_path / f"{i}.txt").write_text(f"\ufeff a text, number {i} \n", "utf-8")
    controls = {"path": str(tmp_path), "modality": "text"}
    generator = trained("folder", open_embedded(PROSE), seed=0, bench=Bench(), controls=controls)
    assert sorted(drawn(generator, 6)[0]) == [f"a text, number {i}" for i in range(6)]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cannot identify"),
        (b"not an image", "cannot identify"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot identify"),
        ("cut", "truncated"),
        ("huge", "larger than 64,000,000 pixels|exceeds limit"),
        ("wide", "(9x9 pixels.*8x8|8x8 pixels.*9x9)"),
        ("deep", "mode I"),
    ],
)
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes | str, why: str) -> None:
    pictures(tmp_path, 2)
    bad = tmp_path / "bad.png"
    if content == "wide":
        Image.new("RGB", (9, 9)).save(bad)
    elif content == "deep":
        Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(bad)
    elif content == "huge":
        # A header that claims a gigapixel; its checksum is right.
        Image.new("L", (8, 8)).save(bad)
        whole = bytearray(bad.read_bytes())
        whole[16:24] = struct.pack(">II", 12_000, 12_000)
        whole[29:33] = struct.pack(">I", zlib.crc32(bytes(whole[12:29])))
        bad.write_bytes(whole)
    else:
        bad.write_bytes((tmp_path / "000.png").read_bytes()[:90] if content == "cut" else content)
    generator = fit("folder", path=str(tmp_path))
    with pytest.raises(BadSource, match=why) as error:
        list(generator.sample(3, 0))
    assert "bad.png" in one_line(error)


@pytest.mark.parametrize(("content", "why"), [(b"\xff\xfe", "UTF-8"), (b" \n", "empty"), (b"a" * 1_000_001, "larger")])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(BadSource, match=why) as error:
        list(fit("folder", path=str(tmp_path), modality="text").sample(1, 0))
    assert "bad.txt" in one_line(error)


def test_a_folder_that_is_not_there_or_empty_is_refused_and_one_that_waits_for_ever_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="not a folder"):
        fit("folder", path=str(tmp_path / "nowhere"))
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadSource, match="holds no image files"):
        fit("folder", path=str(tmp_path))


def test_a_folder_that_changed_is_another_generator(tmp_path: Path) -> None:
    path = str(pictures(tmp_path / "mine", 4))
    generator = fit("folder", path=path)
    generator.save(tmp_path / "model")
    pictures(tmp_path / "mine", 5)
    with pytest.raises(BadSource, match="its recipe differs"):
        class_of("folder")(path=path).load(tmp_path / "model")


# ---------------------------------------------------------------------------------------------- command


def asking(tmp_path: Path, body: str, **controls: Any) -> pytest.ExceptionInfo[RunFailed]:
    generator = fit("command", **{"modality": "text", "command": script(tmp_path / "s", body), **controls})
    with pytest.raises(RunFailed) as error:
        list(generator.sample(3, 0))
    one_line(error)
    return error


def test_the_command_is_run_once_for_all_samples_and_its_folder_goes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    body = SCRIPT + f"open({str(log)!r}, 'a').write(str(a.out) + ' ' + str(a.n) + '\\n')\n"
    generator = fit("command", command=script(tmp_path / "s", body), modality="text")
    made = list(generator.sample(130, 9))
    assert [len(b.items) for b in made] == [64, 64, 2]
    assert log.read_text().count("\n") == 1
    out, n = log.read_text().rsplit(" ", 1)
    assert n.strip() == "130" and not Path(out).exists() and not Path(out).parent.exists()
    # More than were asked for: the first ones count.
    many = script(tmp_path / "many", SCRIPT.replace("range(a.n)", "range(a.n + 5)"))
    assert drawn(fit("command", command=many, modality="text"), 7, 9)[0] == drawn(generator, 7, 9)[0]


def test_no_shell_reads_the_command_and_only_its_own_braces_are_filled(tmp_path: Path) -> None:
    body = "import sys, pathlib\npathlib.Path(sys.argv[-1], '0.txt').write_text(repr(sys.argv[1:-1]))"
    (tmp_path / "s.py").write_text(body)
    command = f"'{sys.executable}' {tmp_path / 's.py'} '$HOME; touch x' {{n!r}} {{0}} n={{n}} {{out}}"
    made = drawn(fit("command", command=command, modality="text"), 1)[0]
    assert made == ["['$HOME; touch x', '{n!r}', '{0}', 'n=1']"]


def test_a_command_that_fails_is_told_with_its_last_line(tmp_path: Path) -> None:
    error = asking(tmp_path, "import sys\nprint('loading', file=sys.stderr)\nsys.exit('no \\x1b[31mweights')\n")
    assert "exit code 1" in str(error.value) and str(error.value).endswith("no  [31mweights")
    error = asking(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert "killed by signal 9" in str(error.value) and "said nothing" in str(error.value)


def test_a_command_that_writes_too_little_or_no_samples_is_told(tmp_path: Path) -> None:
    error = asking(tmp_path, SCRIPT.replace("range(a.n)", "range(a.n - 1)"))
    assert "wrote 2 text files" in str(error.value) and "expected 3" in str(error.value)
    broken = SCRIPT.replace(".txt", ".png")
    error = asking(tmp_path, broken, modality="image")
    assert "00000.png" in str(error.value) and "cannot be read as an image" in str(error.value)
    error = asking(tmp_path, SCRIPT.replace('f"text {chance.random()}"', '""'))
    assert "empty text" in str(error.value)


HANGS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({0!r}, "w").write(str(child.pid))
time.sleep({1})
"""


def is_alive(pid: int) -> bool:
    try:
        # A killed process that nobody has waited for yet is still listed.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads process states from /proc")
@pytest.mark.parametrize("how", ["timeout", "interruption", "success"])
def test_no_worker_outlives_its_command(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    lasts = 600 if how != "success" else 0
    generator = fit("command", command=script(tmp_path / "s", HANGS.format(str(pid), lasts)), timeout=3.0)
    if how == "interruption":

        def interrupted(process: Any, timeout: float | None = None) -> int:
            while not (pid.exists() and pid.read_text()):
                time.sleep(0.02)
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    expected = KeyboardInterrupt if how == "interruption" else RunFailed
    with pytest.raises(expected, match={"timeout": "3 seconds", "success": "wrote 0"}.get(how)):
        list(generator.sample(1, 0))
    child, patience = int(pid.read_text()), time.monotonic() + 5
    while is_alive(child) and time.monotonic() < patience:
        time.sleep(0.02)
    assert not is_alive(child)


@pytest.mark.parametrize(
    ("command", "why"),
    [("python x.py --n {n}", "lacks {out}"), ("no-such-program {out}", "not a program"), ("a 'b {out}", "words")],
)
def test_a_command_that_cannot_work_is_refused_before_it_runs(command: str, why: str) -> None:
    with pytest.raises(BadSetting, match=why) as error:
        fit("command", command=command)
    one_line(error)


# ---------------------------------------------------------------------------------------------- diffusers


def test_a_pipeline_is_loaded_without_code_or_pickles_and_asked_in_small_batches(
    stub: type[StubPipeline], works: Callable[..., Any]
) -> None:
    generator = fit("diffusers", **works("diffusers"), steps=7, guidance=3, batch=4)
    assert stub.calls == []
    [batch] = generator.sample(6, 1)
    load, *_, first, second = stub.calls
    assert load["use_safetensors"] is True and load["trust_remote_code"] is False and load["local_files_only"] is True
    assert first == {"prompt": ["a cat", "a dog"] * 2, "steps": 7, "guidance": 3.0}
    assert second["prompt"] == ["a cat", "a dog"]
    assert batch.conditions == ["a cat", "a dog"] * 3
    assert batch.items.shape == (6, 4, 4, 3)
    one_at_a_time = fit("diffusers", **works("diffusers"), batch=1)
    assert drawn(one_at_a_time, 6) == drawn(generator, 6)
    assert sum("load" in c for c in stub.calls) == 2


def test_a_model_folder_with_code_and_a_hub_that_is_off_are_refused(
    stub: type[StubPipeline], works: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    with pytest.raises(RunFailed, match="switched off") as error:
        list(fit("diffusers", model="someone/something", prompts=works("diffusers")["prompts"]).sample(1, 0))
    one_line(error)
    assert stub.calls[-1]["local_files_only"] is True and stub.calls[-1]["trust_remote_code"] is False
    (tmp_path / "hub" / "unet").mkdir()
    (tmp_path / "hub" / "unet" / "evil.py").write_text("raise SystemExit")
    with pytest.raises(BadSource, match=r"unet/evil\.py"):
        list(fit("diffusers", **works("diffusers")).sample(1, 0))
    assert not any("load" in c for c in stub.calls)


def test_prompts_are_asked_for_and_values_that_are_no_numbers_refused(
    stub: type[StubPipeline], works: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadSetting, match="prompts=FILE"):
        list(fit("diffusers", model=works("diffusers")["model"]).sample(1, 0))
    with pytest.raises(BadSetting, match="expected a text file"):
        fit("diffusers", model="m", prompts="/nowhere")
    monkeypatch.setattr(torch, "rand", lambda n, generator: torch.full((n,), float("nan")))
    with pytest.raises(RunFailed, match="not finite"):
        list(fit("diffusers", **works("diffusers")).sample(1, 0))


def test_a_real_tiny_pipeline_makes_the_same_images_whatever_the_batch(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="the extra 'diffusers' is not installed")
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    net = diffusers.UNet2DModel(8, 3, 3, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4, **blocks)
    diffusers.DDPMPipeline(net, diffusers.DDPMScheduler(num_train_timesteps=20)).save_pretrained(tmp_path / "m")
    generator = fit("diffusers", model=str(tmp_path / "m"), steps=3)
    [batch] = generator.sample(6, 1)
    assert batch.items.shape == (6, 8, 8, 3) and batch.items.std() > 10
    assert drawn(generator, 6, 1) == drawn(generator, 6, 1) != drawn(generator, 6, 2)
    alone = fit("diffusers", model=str(tmp_path / "m"), steps=3, batch=1)
    [apart] = alone.sample(6, 1)
    # Sums over another batch may round otherwise.
    assert np.abs(apart.items.astype(int) - batch.items).max() <= 1
    weights = next((tmp_path / "m" / "unet").glob("*.safetensors"))
    torch.save(net.state_dict(), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(RunFailed, match="safetensors"):
        list(fit("diffusers", model=str(tmp_path / "m")).sample(1, 0))


# ---------------------------------------------------------------------------------------------- transformers


def test_a_language_model_is_loaded_without_code_and_samples_plainly(
    stub_lm: type[StubLm], works: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "true")
    generator = fit("transformers", **works("transformers"), temperature=0.5, top_p=0.9, batch=4)
    [batch] = generator.sample(6, 1)
    tokenizer, model, first, second = stub_lm.calls
    assert all(c["trust_remote_code"] is False and c["local_files_only"] is True for c in (tokenizer, model))
    assert model["use_safetensors"] is True
    assert (first["asked"], second["asked"]) == ((4, 4), (2, 4))
    wanted = {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "top_k": 0, "max_new_tokens": 12, "pad_token_id": 27}
    assert wanted.items() <= first.items()
    assert all(len(t) == 12 for t in batch.items) and len(set(batch.items)) == 6
    assert batch.conditions == ["Once"] * 6
    without = fit("transformers", model=works("transformers")["model"])
    assert next(without.sample(2, 1)).conditions is None
    assert stub_lm.calls[-1]["asked"] == (2, 1)


def test_a_blank_text_is_drawn_again_and_nothing_but_blanks_is_told(
    stub_lm: type[StubLm], works: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub_lm, "blank_first", True)
    generator = fit("transformers", **works("transformers"), batch=3)
    with pytest.raises(RunFailed, match="nothing but blanks"):
        # The last one of a batch is drawn alone, and alone it is always the first.
        list(generator.sample(3, 1))
    monkeypatch.setattr(stub_lm, "batch_decode", lambda self, ids, skip_special_tokens: ["x", " "][: len(ids)])
    assert next(generator.sample(2, 1)).items == ["x", "x"]


def stories(folder: Path) -> str:
    """The 260 thousand parameters of a published story model, as transformers keeps them."""
    transformers = pytest.importorskip("transformers", reason="the extra 'transformers' is not installed")
    tokenizers = pytest.importorskip("tokenizers")
    raw = shared("weights", "stories260K", "stories260K_repaired.bin").read_bytes()
    D, F, L, heads, kv, V, T = struct.unpack("7i", raw[:28])
    flat = torch.from_numpy(np.frombuffer(raw, "<f4", offset=28).copy())
    head = D // heads
    shapes = {
        "embed_tokens": (V, D), "input_layernorm": (L, D), "self_attn.q_proj": (L, heads * head, D),
        "self_attn.k_proj": (L, kv * head, D), "self_attn.v_proj": (L, kv * head, D), "self_attn.o_proj": (L, D, D),
        "post_attention_layernorm": (L, D), "mlp.gate_proj": (L, F, D), "mlp.down_proj": (L, D, F),
        "mlp.up_proj": (L, F, D), "norm": (D,),
    }  # fmt: skip
    state: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        weight, flat = flat[: np.prod(shape)].view(shape), flat[np.prod(shape) :]
        if name[-6:] in ("q_proj", "k_proj"):
            # Rotary positions: pairs of neighbours there, of halves here.
            weight = weight.view(L, -1, head // 2, 2, D).transpose(2, 3).reshape(shape)
        if name in ("embed_tokens", "norm"):
            state[f"model.{name}.weight"] = weight
        else:
            state |= {f"model.layers.{i}.{name}.weight": weight[i] for i in range(L)}
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=D, intermediate_size=F, num_hidden_layers=L, num_attention_heads=heads,
        num_key_value_heads=kv, max_position_embeddings=T, rms_norm_eps=1e-5, tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    assert model.load_state_dict(state, strict=False).unexpected_keys == []
    model.save_pretrained(folder)
    packed, at, pieces = shared("weights", "stories260K", "tok512_t260.bin").read_bytes(), 4, {}
    for i in range(V):
        size = struct.unpack("<i", packed[at + 4 : at + 8])[0]
        piece = packed[at + 8 : at + 8 + size].decode("utf-8", "replace")
        pieces[piece if piece not in pieces else f"<{i}>"] = i
        at += 8 + size
    # Pieces are only put together here, so it needs no merges.
    own = tokenizers.Tokenizer(tokenizers.models.BPE(pieces, [], unk_token="<unk>"))
    own.decoder = tokenizers.decoders.Fuse()
    tokens = {"bos_token": "\n<s>\n", "eos_token": "\n</s>\n", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=own, **tokens).save_pretrained(folder)
    return str(folder)


def test_a_real_small_language_model_tells_its_published_story(tmp_path: Path) -> None:
    """Next to no temperature is the greedy text that was published with the weights."""
    model = stories(tmp_path)
    dull = fit("transformers", model=model, temperature=0.01, max_new_tokens=31)
    story = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    assert drawn(dull, 2)[0] == [story] * 2
    lively = fit("transformers", model=model, max_new_tokens=31)
    assert len(set(drawn(lively, 5)[0])) == 5
    assert drawn(lively, 5) == drawn(lively, 5)


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
