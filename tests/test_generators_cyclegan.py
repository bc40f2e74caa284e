"""Unpaired translation: near the known map both ways, of kept images and of given ones."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
import torch

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, TooFewSamples, UnreadableSample
from evalkit.samples._set import ListedSet
from evalkit.types import Given, Sample
from generators.cyclegan import CycleGan, Translator, bold, two_domains

from .quick import data_for, drawn, fitted, image_set, make, make_from, one_line, pixels_of, text_set
from .test_generators_gans import look_of, photographs

# ---------------------------------------------------------------------------------------------- cyclegan


@lru_cache
def translator() -> CycleGan:
    """A hundred steps on digits: the map is bold strokes, which nobody told it."""
    generator = make("cyclegan", steps=100, width=12, learning_rate=2e-3)
    generator.fit(data_for("cyclegan"), seed=0)
    return generator


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return 10 * math.log10(255**2 / float(np.square(image.astype(float) - truth.astype(float)).mean()))


def translated(generator: CycleGan, pixels: np.ndarray, direction: str = "a_to_b") -> np.ndarray:
    """Translations of uint8 images [N, H, W, 3]."""
    before = generator._settings["direction"]
    generator._settings["direction"] = direction
    try:
        return np.concatenate([b.items for b in generator.sample_given(image_set(pixels), 0)])
    finally:
        generator._settings["direction"] = before


def emboldened(pixels: np.ndarray) -> np.ndarray:
    return bold(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_bold_is_grey_dilation() -> None:
    from scipy.ndimage import maximum_filter

    x = np.random.default_rng(0).random((3, 9, 12)).astype(np.float32)
    for image in x:
        expected = maximum_filter(image, size=2, mode="constant")
        assert np.array_equal(bold(torch.from_numpy(image)[None])[0].numpy(), expected)
    large = np.random.default_rng(0).random((17, 20)).astype(np.float32)
    assert np.array_equal(bold(torch.from_numpy(large)[None])[0].numpy(), maximum_filter(large, size=3))


def test_translations_are_near_the_known_map_both_ways_and_back() -> None:
    """Untouched images are at 8.8 dB of the truth. Inputs are images that training never saw."""
    generator = translator()
    a, b = ((d.images * 255).to(torch.uint8).permute(0, 2, 3, 1).repeat(1, 1, 1, 3).numpy() for d in generator._kept)
    truth, untouched = emboldened(a), psnr(a, emboldened(a))
    thick = translated(generator, a)
    assert untouched < 10 < untouched + 5 < psnr(thick, truth)
    assert psnr(translated(generator, thick, "b_to_a"), a) > untouched + 4
    # The other way round: of the bold images of other digits the thin ones are known too.
    thin = translated(generator, emboldened(a), "b_to_a")
    assert psnr(thin, a) > psnr(emboldened(a), a) + 4
    assert psnr(translated(generator, thin), emboldened(a)) > untouched + 4
    assert translated(generator, b, "b_to_a").mean() < b.mean() < 1.2 * thick.mean()


def test_plain_samples_are_the_kept_images_translated_each_once_a_round() -> None:
    generator = translator()
    a, b = generator._kept
    assert (len(a), len(b)) == (128, 128)
    pixels, groups = pixels_of(generator, 256, 3), drawn(generator, 256, 3)[1]
    expected = translated(generator, (a.images * 255).to(torch.uint8).permute(0, 2, 3, 1).repeat(1, 1, 1, 3).numpy())
    for round_of in (slice(0, 128), slice(128, 256)):
        assert sorted(p.tobytes() for p in pixels[round_of]) == sorted(p.tobytes() for p in expected)
        assert sorted(groups[round_of]) == sorted(str(k) for k in a.labels.tolist())
    assert (pixels[:128] != pixels[128:]).any()
    assert (pixels_of(generator, 10, 3) == pixels[:10]).all()


def test_the_kept_images_were_never_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[bytes] = set()
    real = Translator.forward

    def noting(self: Translator, x: torch.Tensor) -> torch.Tensor:
        if not x.requires_grad:
            seen.update(((i + 1) / 2 * 255).round().to(torch.uint8).numpy().tobytes() for i in x)
        return real(self, x)

    monkeypatch.setattr(Translator, "forward", noting)
    generator = make("cyclegan", steps=40, width=4)
    generator.fit(photographs(16, 4, 4), seed=0)
    kept = {(i * 255).round().to(torch.uint8).numpy().tobytes() for d in generator._kept for i in d.images}
    assert len(kept) == 4 and len(seen) == 12 and not kept & seen


def test_two_groups_are_the_domains_and_else_every_second_image_of_a_class_is_made_bold() -> None:
    x, labels = torch.rand(10, 1, 4, 4), torch.arange(10) % 2
    A, B = two_domains(look_of(4, 4, classes=("horse", "zebra")), x, labels, "toy", "cyclegan")
    assert torch.equal(A.images, x[0::2]) and torch.equal(B.images, x[1::2])
    A, B = two_domains(look_of(4, 4), x, torch.zeros(10, dtype=torch.long), "toy", "cyclegan")
    assert torch.equal(A.images, x[0::2]) and torch.equal(B.images, bold(x[1::2]))
    # Four classes in turn: plain parity would make A of two classes and B of the other two.
    A, B = two_domains(look_of(4, 4, classes=tuple("abcd")), torch.rand(16, 1, 4, 4), torch.arange(16) % 4, "toy", "c")
    assert sorted(A.labels.tolist()) == sorted(B.labels.tolist()) == sorted([*range(4), *range(4)])


def test_between_two_groups_a_translation_is_named_by_where_it_goes() -> None:
    rng = np.random.default_rng(0)
    base = np.repeat([40, 200], 20)[:, None, None, None] + rng.integers(-40, 41, (40, 6, 6, 3))
    data = image_set(base.astype(np.uint8), ["night"] * 20 + ["day"] * 20)
    generator = make("cyclegan", steps=2, width=4)
    generator.fit(data, seed=0)
    for direction, source, target in (("a_to_b", "day", "night"), ("b_to_a", "night", "day")):
        generator._settings["direction"] = direction
        assert drawn(generator, 12)[1] == [target] * 12
        inputs = ListedSet("in", "image", tuple(s for s in data if s.group == source))
        assert [g for b in generator.sample_given(inputs, 0) for g in b.groups] == [target] * 20
    few = ListedSet("few", "image", data.samples[:23])
    with pytest.raises(TooFewSamples, match="at least 4 training images of each domain, 'few' has 3 and 20"):
        make("cyclegan").fit(few, seed=0)


def test_given_images_are_translated_in_order_in_batches_whatever_stands_beside_them() -> None:
    generator = fitted("cyclegan")
    assert isinstance(generator, Given) and generator.takes == "image"
    samples = data_for("cyclegan").samples[:70]
    batches = list(generator.sample_given(ListedSet("in", "image", samples), 0))
    assert [len(b.items) for b in batches] == [64, 6]
    assert [g for b in batches for g in b.groups] == [s.group for s in samples]
    alone = next(iter(generator.sample_given(ListedSet("one", "image", samples[66:67]), 1)))
    # A value between two grey levels may be rounded either way.
    assert float((alone.items[0] != batches[1].items[2]).mean()) < 0.05
    for _ in generator.sample_given(ListedSet("in", "image", samples), 0):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_what_cannot_be_translated_is_refused_in_one_line() -> None:
    generator = fitted("cyclegan")
    with pytest.raises(BadSource) as error:
        list(generator.sample_given(photographs(2, 8, 9), 0))
    assert "learned 8x8 images" in one_line(error) and "'0.png' is 9x8" in str(error.value)

    def broken() -> np.ndarray:
        raise UnreadableSample("truncated")

    with pytest.raises(BadSource) as error:
        list(generator.sample_given(ListedSet("bad", "image", (Sample("x.png", "d", broken),)), 0))
    assert "'x.png'" in one_line(error) and "truncated" in str(error.value)
    with pytest.raises(ModalityMismatch, match="translates images, 'toy' holds texts"):
        generator.sample_given(text_set(["a b"]), 0)
    with pytest.raises(BadSetting, match="before sample_given"):
        make("cyclegan").sample_given(photographs(2, 8, 8), 0)
    with pytest.raises(BadSetting, match="expected one of a_to_b, b_to_a"):
        make("cyclegan", direction="up")


def test_direction_is_no_matter_of_training_and_identity_is() -> None:
    assert CycleGan(direction="b_to_a").recipe == CycleGan().recipe != CycleGan(identity=0.5).recipe
    there, back = (drawn(make_from("cyclegan", direction=d), 8)[0] for d in ("a_to_b", "b_to_a"))
    assert there != back
    generator, plain = make("cyclegan", identity=0.5), fitted("cyclegan")
    generator.fit(data_for("cyclegan"), seed=0)
    assert drawn(generator, 8) != drawn(plain, 8)
