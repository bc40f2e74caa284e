"""Reference generators: one protocol, one seed one sample set, and what is kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from evalkit.errors import (
    RunFailed,
    TooFewSamples,
)
from evalkit.samples.embedded import open_embedded
from evalkit.types import Generator
from generators._training import Ema
from generators.diffusion import Diffusion
from generators.gan import Gan
from generators.lm import Lm
from generators.resample import Resample
from generators.vae import Vae

from .quick import (
    INSIDE,
    LEARNING,
    TEXTUAL,
    class_of,
    data_for,
    drawn,
    fitted,
    make,
    make_from,
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
