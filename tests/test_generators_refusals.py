"""What a generator refuses, in one line: data, controls, folders that hold no model of it; and a loss that diverges."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
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
from generators._training import LastGood
from generators.diffusion import Diffusion

from .quick import (
    INSIDE,
    LEARNING,
    READERS,
    class_of,
    data_for,
    drawn,
    fitted,
    image_set,
    make,
    one_line,
    text_set,
)

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
