"""Reference generators: one protocol, one seed one sample set, what is kept, and one line for what is wrong."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evalkit.errors import (
    BadSetting,
    BadSource,
    ModalityMismatch,
    RunFailed,
    TooFewSamples,
    UnknownName,
    UnwritableOutput,
    UsageError,
)
from evalkit.samples._set import ListedSet
from evalkit.samples.embedded import open_embedded
from evalkit.types import Generator
from generators._training import Ema, LastGood
from generators.diffusion import Diffusion
from generators.gan import Gan
from generators.lm import Lm
from generators.resample import Resample
from generators.vae import Vae

from .quick import (
    INSIDE,
    LEARNING,
    READERS,
    TEXTUAL,
    class_of,
    data_for,
    drawn,
    fitted,
    image_set,
    make,
    make_from,
    one_line,
    text_set,
)

# ---------------------------------------------------------------------------------------------- the protocol


@pytest.mark.parametrize("name", INSIDE)
def test_every_generator_keeps_the_protocol(name: str) -> None:
    generator = fitted(name)
    assert isinstance(generator, Generator)
    assert generator.name == name
    assert generator.modality == ("text" if name in TEXTUAL else "image")
    assert generator.role == class_of(name).role
    assert generator.trained_on == data_for(name).digest
    assert generator.recipe.startswith("sha256:")
    assert set(generator.settings) == {c.name for c in generator.controls}
    assert type(generator).__doc__.splitlines()[0].endswith(".")
    assert generator.parameters > 0 or generator.role != "candidate"
    batches = list(generator.sample(70, 3))
    assert [len(b.items) for b in batches] == [64, 6]
    for batch in batches:
        if generator.modality == "image":
            assert batch.items.dtype == np.uint8
            assert batch.items.shape == (len(batch.items), 8, 8, 3)
        else:
            assert all(t and t == t.strip() for t in batch.items)


@pytest.mark.parametrize("name", INSIDE)
def test_same_seed_same_samples_other_seed_others(name: str) -> None:
    generator = fitted(name)
    assert drawn(generator, 70, 5) == drawn(generator, 70, 5)
    assert drawn(generator, 70, 5) != drawn(generator, 70, 6)


class Notes:
    """Progress that counts."""

    def __init__(self) -> None:
        self.total, self.done, self.finished = 0, 0, 0

    def start(self, task: str, total: int) -> None:
        self.total += total

    def advance(self, n: int = 1) -> None:
        self.done += n

    def finish(self) -> None:
        self.finished += 1


@pytest.mark.parametrize("name", LEARNING)
def test_same_training_seed_same_model_other_seed_another_and_progress_to_its_end(name: str) -> None:
    again, other, notes = make(name), make(name), Notes()
    again.fit(data_for(name), seed=0, progress=notes)
    other.fit(data_for(name), seed=1)
    assert drawn(again, 10) == drawn(fitted(name), 10)
    assert drawn(other, 10) != drawn(fitted(name), 10)
    assert notes.done == notes.total > 0
    assert notes.finished >= 1


@pytest.mark.parametrize("name", INSIDE)
def test_save_and_load_give_the_same_samples_to_the_byte(name: str, tmp_path: Path) -> None:
    generator, again = fitted(name), make(name)
    generator.save(tmp_path / "a")
    again.load(tmp_path / "a")
    assert drawn(again, 70) == drawn(generator, 70)
    assert (again.trained_on, again.parameters) == (generator.trained_on, generator.parameters)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["card.json", "model.safetensors"]
    again.save(tmp_path / "b")
    for kept in ("card.json", "model.safetensors"):
        assert (tmp_path / "a" / kept).read_bytes() == (tmp_path / "b" / kept).read_bytes()


@pytest.mark.parametrize("name", INSIDE)
def test_a_loaded_model_moves_to_the_device_it_is_told(name: str, tmp_path: Path) -> None:
    fitted(name).save(tmp_path)
    generator = make(name)
    generator.load(tmp_path)
    generator.to("cpu")
    assert drawn(generator, 5) == drawn(fitted(name), 5)
    generator.to("meta")
    network = getattr(generator, "_net", None)
    assert network is None or all(p.device.type == "meta" for p in network.parameters())


@pytest.mark.parametrize("name", INSIDE)
def test_the_callers_chance_is_untouched(name: str) -> None:
    torch.manual_seed(7)
    np.random.seed(7)
    generator = make(name)
    generator.fit(data_for(name), seed=0)
    for _ in generator.sample(3, 0):
        # Between two batches the caller's own training must still work.
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    mine = torch.rand(3), np.random.rand(3)
    torch.manual_seed(7)
    np.random.seed(7)
    assert torch.equal(mine[0], torch.rand(3))
    assert np.array_equal(mine[1], np.random.rand(3))


def test_sampling_controls_do_not_ask_for_a_new_training(tmp_path: Path) -> None:
    assert Diffusion(steps=10, eta=1.0).recipe == Diffusion().recipe != Diffusion(training_steps=10).recipe
    assert Lm(temperature=0.5, top_k=3, top_p=0.5).recipe == Lm().recipe != Lm(layers=1).recipe
    assert Gan().recipe != Vae().recipe
    fitted("diffusion").save(tmp_path)
    slower = make("diffusion", steps=10)
    slower.load(tmp_path)
    assert drawn(slower, 5) != drawn(fitted("diffusion"), 5)


def test_progress_is_finished_on_failure() -> None:
    notes = Notes()
    with pytest.raises(RunFailed):
        make("vae", learning_rate=1000).fit(data_for("vae"), seed=0, progress=notes)
    assert notes.finished == 1


@pytest.mark.parametrize("name", ["gan", "vae", "diffusion", "lm"])
def test_one_sample_costs_one_sample(name: str) -> None:
    """Latency is timed with n = 1: the network must see a batch of one, not a full batch cut down."""
    seen: list[int] = []
    generator = make_from(name)
    net = generator._net.decoder if name == "vae" else generator._net
    net.register_forward_hook(lambda net, given, out: seen.append(len(given[0])))
    list(generator.sample(1, 0))
    assert set(seen) == {1}


def test_ema_of_constant_weights_is_them_and_follows_a_change_slowly() -> None:
    net = torch.nn.Linear(1, 1)
    ema = Ema(net, 0.9)
    with torch.no_grad():
        net.weight.fill_(1.0)
        ema.net.weight.fill_(0.0)
    for _ in range(200):
        ema.update(net)
    assert ema.net.weight.item() == pytest.approx(1, abs=1e-6)
    with torch.no_grad():
        net.weight.fill_(2.0)
    ema.update(net)
    assert ema.net.weight.item() == pytest.approx(1.1, abs=1e-5)


@pytest.mark.parametrize("source", ["embedded:digits/ceiling", "embedded:prose/ceiling"])
def test_resample_deals_real_samples_each_once(source: str, tmp_path: Path) -> None:
    data = open_embedded(source)
    generator = Resample()
    generator.fit(data, seed=0)
    assert generator.modality == data.modality
    samples, groups = drawn(generator, len(data))
    real = [m if isinstance(m, str) else m.tobytes() for m in (s.load() for s in data)]
    assert Counter(samples) == Counter(real)
    assert samples != real
    if data.modality == "image":
        label = {r: s.group for r, s in zip(real, data, strict=True)}
        assert groups == [label[s] for s in samples]
    with pytest.raises(TooFewSamples, match=rf"{len(data) + 1} samples asked of resample, which holds {len(data)}"):
        generator.sample(len(data) + 1, 0)
    generator.save(tmp_path)
    again = Resample()
    again.load(tmp_path)
    assert again.modality == data.modality
    assert drawn(again, 20) == drawn(generator, 20)


# ---------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", [n for n in INSIDE if n != "resample"])
def test_seven_samples_are_too_few(name: str) -> None:
    data = data_for(name)
    few = ListedSet("few", data.modality, data.samples[:7])
    with pytest.raises(TooFewSamples) as error:
        make(name).fit(few, seed=0)
    assert "at least 8" in one_line(error) and "7" in str(error.value)


@pytest.mark.parametrize("name", [n for n in INSIDE if not class_of(n).takes_any])
def test_the_other_modality_is_refused(name: str) -> None:
    other = text_set(["a b"] * 9) if name not in READERS else image_set(np.zeros((9, 2, 2, 3), np.uint8))
    with pytest.raises(ModalityMismatch) as error:
        make(name).fit(other, seed=0)
    assert name in one_line(error)


@pytest.mark.parametrize("name", [n for n in INSIDE if n != "resample"])
def test_constant_data_is_refused(name: str) -> None:
    same = text_set(["a b"] * 9) if name in READERS else image_set(np.full((9, 2, 2, 3), 5, np.uint8))
    with pytest.raises(BadSource) as error:
        make(name).fit(same, seed=0)
    assert "constant" in one_line(error)


@pytest.mark.parametrize("name", INSIDE)
def test_an_unknown_control_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(UnknownName):
        make(name, nonsense=1)
    if name in LEARNING:
        with pytest.raises(UnknownName, match=r"did you mean .*learning_rate"):
            make(name, learning_rat=1)


@pytest.mark.parametrize(
    ("name", "control", "value"),
    [
        ("gan", "steps", 0),
        ("gan", "steps", 1.5),
        ("gan", "steps", "many"),
        ("vae", "learning_rate", math.nan),
        ("diffusion", "steps", 1001),
        ("diffusion", "eta", -0.1),
        ("diffusion", "eta", True),
        ("lm", "temperature", 0),
        ("lm", "top_p", 1.5),
        ("ngram", "order", 0),
        ("ngram", "level", "sentence"),
        ("ngram", "level", 3),
    ],
)
def test_a_control_out_of_range_is_refused_with_its_range(name: str, control: str, value: int | float | str) -> None:
    with pytest.raises(BadSetting) as error:
        make(name, **{control: value})
    text = one_line(error)
    assert f"{name}.{control}" in text and "expected" in text


def test_a_number_may_come_as_text_from_a_command_line() -> None:
    assert Diffusion(steps="20").settings == Diffusion(steps=20).settings
    assert Diffusion(eta="0.5").settings["eta"] == 0.5


@pytest.mark.parametrize("name", INSIDE)
def test_nothing_is_drawn_or_saved_before_training(name: str, tmp_path: Path) -> None:
    generator = make(name)
    assert generator.trained_on == ""
    for act in (lambda: generator.sample(3, 0), lambda: generator.save(tmp_path / "m")):
        with pytest.raises(BadSetting):
            act()
    assert not (tmp_path / "m").exists()
    with pytest.raises(BadSetting):
        fitted(name).sample(0, 0)


def test_what_is_no_model_of_this_generator_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    with pytest.raises(BadSource, match="not a model folder"):
        make("vae").load(folder)
    fitted("vae").save(folder)
    with pytest.raises(BadSource, match="holds the generator 'vae', expected 'gan'"):
        make("gan").load(folder)
    with pytest.raises(BadSource, match="width=256, expected 64"):
        make("vae", width=64).load(folder)
    weights, card = folder / "model.safetensors", folder / "card.json"
    whole, about = weights.read_bytes(), card.read_bytes()
    damaged = [
        (weights, whole[:-10]),
        (weights, b"not tensors"),
        (card, b"{"),
        (card, b"[]"),
        (card, about[: len(about) // 2]),
        (card, json.dumps({**json.loads(about), "facts": {}}).encode()),
        (card, json.dumps({**json.loads(about), "facts": {**json.loads(about)["facts"], "width": 9}}).encode()),
    ]
    for path, content in damaged:
        weights.write_bytes(whole)
        card.write_bytes(about)
        path.write_bytes(content)
        with pytest.raises(BadSource) as error:
            make("vae").load(folder)
        one_line(error)
    weights.write_bytes(whole)
    card.write_bytes(about)
    weights.unlink()
    with pytest.raises(BadSource, match=r"model\.safetensors"):
        make("vae").load(folder)


def test_a_failed_load_or_fit_leaves_the_generator_as_it_was(tmp_path: Path) -> None:
    generator = make("vae")
    generator.fit(data_for("vae"), seed=0)
    before = drawn(generator, 10), generator.trained_on
    fitted("gan").save(tmp_path)
    with pytest.raises(BadSource):
        generator.load(tmp_path)
    with pytest.raises(UsageError):
        generator.fit(image_set(np.zeros((9, 2, 2, 3), np.uint8)), seed=0)
    assert (drawn(generator, 10), generator.trained_on) == before


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnwritableOutput) as error:
        fitted("noise").save(tmp_path / "file" / "model")
    one_line(error)


@pytest.mark.parametrize("name", ["gan", "vae", "diffusion", "lm"])
def test_training_that_diverges_stops_in_one_line_naming_the_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make(name, learning_rate=1000)
    if name == "gan":
        # Batch norm and saturating losses keep this one finite at any rate: blind its discriminator instead.
        monkeypatch.setattr("generators.gan.NOISE", math.inf)
    with pytest.raises(RunFailed) as error:
        generator.fit(data_for(name), seed=0)
    assert "at step" in one_line(error)
    assert generator.trained_on == ""


def test_a_diverged_training_leaves_its_last_sound_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss turns bad after thirty steps: what was kept before is a model that draws and is known by its data."""
    monkeypatch.setattr(LastGood, "EVERY", 10)
    calls, real = [], F.binary_cross_entropy_with_logits

    def turning_bad(*given, **named):
        calls.append(1)
        return real(*given, **named) * (math.nan if len(calls) > 30 else 1.0)

    monkeypatch.setattr(F, "binary_cross_entropy_with_logits", turning_bad)
    data, generator = data_for("vae"), make("vae", steps=200)
    with pytest.raises(RunFailed, match="at step 31"):
        generator.fit(data, seed=0)
    assert generator.trained_on == data.digest
    assert all(bool(p.isfinite().all()) for p in generator._net.parameters())
    assert len(drawn(generator, 5)[0]) == 5
