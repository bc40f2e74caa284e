"""Generators with a latent space: the decoded image is the sample before it is rounded, and moves with its code."""

from __future__ import annotations

import pytest
import torch

from evalkit.errors import BadSetting
from evalkit.metrics.path_length import ppl
from evalkit.paths import measure_paths
from evalkit.planning import Task
from evalkit.types import Latent
from tests.quick import fitted, make, make_from, pixels_of
from tests.test_metrics_path_length import BENCH, Seen

DECODING = ("gan", "vae", "diffusion")


@pytest.mark.parametrize("name", DECODING)
def test_a_decoded_code_is_the_sample_before_rounding(name: str) -> None:
    generator = fitted(name)
    assert isinstance(generator, Latent)
    # The first thing a seed draws is the codes of the first samples, whose classes come in turn.
    z = torch.randn(24, generator.latent_size, generator=torch.Generator().manual_seed(7))
    decoded = generator.decode(z)
    assert decoded.shape == (24, 3, 8, 8) and decoded.dtype == torch.float32
    assert float(decoded.min()) >= 0 and float(decoded.max()) <= 255
    assert not decoded.requires_grad and not decoded.is_inference()
    rendered = generator._look.render(decoded[:, :1] / 255)
    assert (rendered == pixels_of(generator, 24, seed=7)).all()
    # Fractions are kept where the network's values are not clipped.
    inside = decoded[(decoded > 0) & (decoded < 255)]
    assert len(inside) and float((inside == inside.round()).float().mean()) < 0.01


@pytest.mark.parametrize("name", DECODING)
def test_one_code_at_one_place_gives_one_image_and_classes_come_in_turn(name: str) -> None:
    generator = fitted(name)
    z = torch.randn(1, generator.latent_size).expand(20, -1)
    images = generator.decode(z)
    assert torch.equal(images, generator.decode(z))
    torch.testing.assert_close(images[:10], images[10:], rtol=1e-4, atol=1e-2)
    assert float((images[0] - images[1]).abs().max()) > 0.01


@pytest.mark.parametrize("name", DECODING)
def test_a_step_of_half_the_size_moves_the_image_half_as_far(name: str) -> None:
    lengths = []
    for epsilon in (2e-3, 1e-3):
        task = Task(ppl, "seen", None, {**ppl.params, "pairs": 120, "epsilon": epsilon})
        paths = measure_paths([task], {"seen": Seen()}, fitted(name), name, seed=0, bench=BENCH)
        lengths.append(ppl(paths[task.label], **task.settings).value)
    assert lengths[0] == pytest.approx(lengths[1], rel=0.1)


@pytest.mark.parametrize("name", ["noise", "resample", "ngram", "unigram"])
def test_other_generators_have_no_latent_space(name: str) -> None:
    assert not isinstance(make(name), Latent)


def test_what_is_no_function_of_a_code_is_not_decoded() -> None:
    with pytest.raises(BadSetting, match="set eta=0"):
        make_from("diffusion", eta=0.5).decode(torch.zeros(2, 64))
    for name in DECODING:
        with pytest.raises(BadSetting, match="before decode"):
            make(name).decode(torch.zeros(2, 32))
