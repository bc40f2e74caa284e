"""The instruments: known numbers, rows that depend on nothing but their sample, weights that are the recorded ones."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import ModalityMismatch, RunFailed
from evalkit.extractors import BUILTIN
from evalkit.extractors.area import area_average
from evalkit.extractors.char_ngrams import CharNgrams
from evalkit.extractors.digits_net import DigitsNet
from evalkit.extractors.identity import identity
from evalkit.extractors.pixels import Pixels
from evalkit.extractors.prose_lm import ProseLM
from evalkit.extractors.prose_states import ProseStates
from evalkit.extractors.random_conv import RandomConv
from evalkit.samples.embedded import open_embedded
from evalkit.types import Extractor
from evalkit.weights import PACKAGE, SHIPPED, load_weights

from .rows import rows

RNG = np.random.RandomState(0)
IMAGES = [RNG.randint(0, 256, (12, 9, 3)).astype(np.uint8) for _ in range(7)]
TEXTS = [
    "The value is bound to the name.",
    "x",
    "Zwei Wörter — und €!",
    "a b " * 40,
    "See section Primaries.",
    "..",
    "é",
]
IMAGE_EXTRACTORS = [Pixels, RandomConv, DigitsNet]
TEXT_EXTRACTORS = [CharNgrams, ProseLM, ProseStates]


# ---------------------------------------------------------------------------------------------- all of them


def test_the_table_names_each_class_by_its_own_name():
    built = {cls.name: f"{cls.__module__}:{cls.__name__}" for cls in (*IMAGE_EXTRACTORS, *TEXT_EXTRACTORS)}
    assert built.items() <= BUILTIN.items()


@pytest.mark.parametrize("cls", [*IMAGE_EXTRACTORS, *TEXT_EXTRACTORS])
def test_an_instrument_keeps_the_protocol_and_its_heads_lie_within_its_row(cls):
    stream = torch.get_rng_state()
    extractor = cls()
    assert isinstance(extractor, Extractor)
    assert torch.equal(torch.get_rng_state(), stream), "the caller's random stream was drawn from"
    assert cls.__doc__.count(".") >= 1
    row = rows(extractor, (IMAGES if cls.modality == "image" else TEXTS)[:1])
    assert row.dtype == torch.float32
    assert max(part.stop for part in extractor.heads.values()) == row.shape[1]
    assert extractor.digest == cls().digest
    assert extractor.digest.startswith("sha256:") and len(extractor.digest) == 71


@pytest.mark.parametrize("cls", [*IMAGE_EXTRACTORS, *TEXT_EXTRACTORS])
def test_rows_do_not_depend_on_the_size_of_the_batch(cls):
    extractor, samples = cls(), IMAGES if cls.modality == "image" else TEXTS
    alone = rows(extractor, samples, 1)
    for size in (3, 7):
        torch.testing.assert_close(
            rows(extractor, samples, size), alone, rtol=1e-5, atol=1e-5 * float(alone.abs().max())
        )


@pytest.mark.parametrize("cls", [*IMAGE_EXTRACTORS, *TEXT_EXTRACTORS])
def test_a_sample_of_the_other_modality_is_refused(cls):
    with pytest.raises(ModalityMismatch, match=cls.name):
        cls().prepare("words" if cls.modality == "image" else IMAGES[0])


def test_every_digest_is_different():
    assert len({cls().digest for cls in (*IMAGE_EXTRACTORS, *TEXT_EXTRACTORS)}) == len(
        (*IMAGE_EXTRACTORS, *TEXT_EXTRACTORS)
    )


def test_identity_changes_with_each_of_its_parts():
    base = identity("a", 1, {"k": 1}, {"w": torch.zeros(2)})
    others = [
        identity("b", 1, {"k": 1}, {"w": torch.zeros(2)}),
        identity("a", 2, {"k": 1}, {"w": torch.zeros(2)}),
        identity("a", 1, {"k": 2}, {"w": torch.zeros(2)}),
        identity("a", 1, {"k": 1}, {"w": torch.tensor([0.0, 1.0])}),
        identity("a", 1, {"k": 1}, {"w": torch.zeros(2, 1)}),
        identity("a", 1, {"k": 1}, {"w": torch.zeros(2).int()}),
        identity("a", 1, {"k": 1}, {"v": torch.zeros(2)}),
    ]
    assert base not in others and len(set(others)) == len(others)
    assert identity("a", 1, {"k": 1}, {"w": torch.zeros(2)}) == base


# ---------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_weights_are_the_ones_their_card_describes(name):
    record = SHIPPED[name]
    card = json.loads((PACKAGE / record.card).read_text())
    found = hashlib.sha256(record.path.read_bytes()).hexdigest()
    assert found == record.sha256 == card["sha256"]
    assert card["licence"] == record.licence and card["data"]["source"] == record.trained_on
    assert record.path.stat().st_size < 700_000


def test_weights_with_one_flipped_bit_are_refused(tmp_path):
    record = SHIPPED["digits_net"]
    content = bytearray(record.path.read_bytes())
    content[-1] ^= 1
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(RunFailed) as refusal:
        load_weights(replace(record, file=str(damaged)))
    assert all(part in str(refusal.value) for part in (str(damaged), record.sha256, found))


def test_missing_weights_are_refused(tmp_path):
    with pytest.raises(RunFailed, match=r"absent\.safetensors"):
        load_weights(replace(SHIPPED["digits_net"], file=str(tmp_path / "absent.safetensors")))


# ---------------------------------------------------------------------------------------------- pixels


def test_digits_pass_through_pixels_exactly():
    digit = next(iter(open_embedded("embedded:digits/heldout"))).load()
    assert torch.equal(rows(Pixels(), [digit])[0], torch.from_numpy(digit.reshape(-1)).float() / 255)


def test_an_image_twice_as_large_is_averaged_over_two_by_two_pixels():
    image = RNG.randint(0, 256, (16, 16, 3)).astype(np.uint8)
    expected = F.avg_pool2d(torch.from_numpy(image).permute(2, 0, 1).float(), 2).permute(1, 2, 0) / 255
    torch.testing.assert_close(rows(Pixels(), [image])[0], expected.reshape(-1))


def test_area_average_of_three_pixels_to_two_by_hand():
    image = np.array([0.0, 3.0, 9.0]).reshape(1, 3, 1).repeat(3, axis=0)
    # Each cell is one and a half pixels wide: (0 + 3 / 2) / 1.5 and (3 / 2 + 9) / 1.5.
    assert np.allclose(area_average(image, 2)[:, :, 0], [[1, 7], [1, 7]])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12))
def test_area_averaging_keeps_the_mean(height, width, side):
    image = np.random.RandomState(height * 41 + width).randint(0, 256, (height, width, 3)).astype(np.uint8)
    assert np.allclose(area_average(image, side).mean((0, 1)), image.mean((0, 1)), rtol=1e-4, atol=1e-3)


# ---------------------------------------------------------------------------------------------- random_conv


def test_random_conv_equals_a_plain_recomputation():
    extractor, image = RandomConv(), IMAGES[0]
    x = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    x = F.interpolate(x, size=(64, 64), mode="bilinear", antialias=True) / 127.5 - 1
    rng, expected = np.random.RandomState(0), []
    for fan_out, fan_in, kernel in ((32, 3, 5), (64, 32, 3), (64, 64, 3), (96, 64, 3)):
        bound = math.sqrt(6 / (fan_in * kernel * kernel))
        weight = torch.from_numpy((rng.random_sample((fan_out, fan_in, kernel, kernel)) * 2 - 1) * bound)
        # Convolution by hand: unfold the patches and multiply.
        size = (x.shape[-1] + 1) // 2
        patches = F.unfold(x, kernel, padding=kernel // 2, stride=2)
        x = (weight.reshape(fan_out, -1) @ patches).reshape(1, fan_out, size, size).clamp_min(0)
        flat = x.reshape(fan_out, -1).numpy()
        expected += [*flat.mean(1), *flat.std(1)]
    np.testing.assert_allclose(rows(extractor, [image])[0].numpy(), expected, rtol=1e-3, atol=1e-4)


def test_random_conv_is_the_same_network_on_every_machine():
    assert RandomConv().digest == "sha256:448afc84264e6ba1e00ac3b9ab3b9ee6dc98c602b33d5e03e4c7dbf262a2e610"
    assert "cannot be compared" in RandomConv.incomparable


def test_random_conv_moves_further_for_a_stronger_blur():
    extractor = RandomConv()
    image = RNG.randint(0, 256, (32, 32, 3)).astype(np.uint8)
    blurred = [area_average(image, side).repeat(32 // side, 0).repeat(32 // side, 1) for side in (16, 8, 4)]
    found = rows(extractor, [image, *(np.rint(b).astype(np.uint8) for b in blurred)])
    distances = (found[1:] - found[0]).norm(dim=1)
    assert (distances.diff() > 0).all()


# ---------------------------------------------------------------------------------------------- digits_net


def test_digits_net_is_as_accurate_on_heldout_as_its_card_says():
    samples = list(open_embedded("embedded:digits/heldout"))
    extractor = DigitsNet()
    p = rows(extractor, [s.load() for s in samples], 64)[:, extractor.heads["logits"]].softmax(1)
    confidence, guess = p.max(1)
    right = guess == torch.tensor([int(s.group) for s in samples])
    card = json.loads((PACKAGE / SHIPPED["digits_net"].card).read_text())
    assert right.float().mean().item() == pytest.approx(card["heldout"]["accuracy"], abs=1e-6)
    assert card["heldout"]["n"] == len(samples) and card["heldout"]["accuracy"] >= 0.97
    # Calibrated: its mean confidence is its accuracy, within the sampling error of 386 digits.
    assert confidence.mean().item() == pytest.approx(right.float().mean().item(), abs=0.01)


def test_digits_net_reads_a_larger_copy_as_the_same_digit():
    digits = [s.load() for s, _ in zip(open_embedded("embedded:digits/heldout"), range(20), strict=False)]
    larger = [d.repeat(4, 0).repeat(4, 1) for d in digits]
    extractor = DigitsNet()
    torch.testing.assert_close(rows(extractor, larger), rows(extractor, digits), rtol=1e-4, atol=1e-4)


def test_digits_net_is_less_sure_of_noise_than_of_digits():
    extractor = DigitsNet()
    digits = [s.load() for s, _ in zip(open_embedded("embedded:digits/heldout"), range(100), strict=False)]
    noise = [np.repeat(RNG.randint(0, 256, (8, 8, 1)), 3, axis=2).astype(np.uint8) for _ in range(100)]
    sure = [
        rows(extractor, s, 100)[:, extractor.heads["logits"]].softmax(1).max(1).values.mean() for s in (digits, noise)
    ]
    assert sure[1] < sure[0] - 0.1
