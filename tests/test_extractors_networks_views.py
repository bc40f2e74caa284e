"""The square views of networks of photographs: equal to Pillow through torchvision, at any size and shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evalkit.extractors._center import View, on_grey_levels, resized_float

from .networks import photographs

SIZES = [(224, 224), (512, 333), (97, 400), (224, 500), (30, 31), (1, 1), (1, 9), (640, 224)]


def of(height, width):
    return photographs((height, width), seed=height + width)[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("filter", ["bicubic", "bilinear"])
def test_shorter_side_and_centre_cut_equal_torchvision(size, filter):
    transforms = pytest.importorskip("torchvision.transforms")
    how = transforms.InterpolationMode(filter)
    theirs = transforms.Compose([transforms.Resize(224, interpolation=how), transforms.CenterCrop(224)])
    image = of(*size)
    expected = np.asarray(theirs(Image.fromarray(image)))
    found = View(224, "shorter", filter=filter).prepare(image)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("size", [(20, 700), (700, 13), (3, 90)])
def test_a_strip_is_resized_only_where_it_is_kept(size):
    """Of a strip the rest is never made; one grey level may differ, as coefficients are rounded elsewhere."""
    transforms = pytest.importorskip("torchvision.transforms")
    how = transforms.InterpolationMode.BICUBIC
    theirs = transforms.Compose([transforms.Resize(64, interpolation=how), transforms.CenterCrop(64)])
    image = of(*size)
    expected = torch.from_numpy(np.array(theirs(Image.fromarray(image)))).permute(2, 0, 1).int()
    assert int((View(64, "shorter").prepare(image).int() - expected).abs().max()) <= 1


def test_the_longest_strip_needs_no_memory():
    strip = np.zeros((1, 300_000, 3), np.uint8)
    assert View(224, "shorter").prepare(strip).shape == (3, 224, 224)


def test_the_square_is_cut_before_resizing():
    """Left and right thirds of a wide image are not in the view, whatever they show."""
    image = np.full((60, 180, 3), 255, np.uint8)
    image[:, 60:120] = 40
    assert View(336, "crop").prepare(image).unique().tolist() == [40]
    # Resized first, the bright thirds bleed over the edge of the cut.
    assert View(336, "shorter").prepare(image).unique().numel() > 1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 255), st.sampled_from(["shorter", "crop", "squash"]))
def test_a_flat_image_stays_flat_and_is_normalised_by_hand(height, width, grey, fit):
    view = View(16, fit, mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    prepared = view.prepare(np.full((height, width, 3), grey, np.uint8))
    assert prepared.shape == (3, 16, 16) and prepared.unique().tolist() == [grey]
    share = grey / 255
    expected = torch.tensor([(share - 0.5) / 0.5, share - 0.25, share / 2])
    torch.testing.assert_close(view.normalised(prepared[None])[0, :, 3, 5], expected)


def test_fractions_are_kept_where_they_are_not_rounded():
    image = of(300, 260)
    float_view, rounded = View(64, "squash", rounded=False).prepare(image), View(64, "squash").prepare(image)
    assert torch.equal(float_view, resized_float(on_grey_levels(image), 64)[0])
    assert bool((float_view != float_view.round()).any())
    assert float((float_view.clamp(0, 255) - rounded).abs().max()) < 1.5
    # A step overshoots under the bicubic kernel, and stays so: clipping is another dialect.
    step = np.zeros((64, 64, 3), np.uint8)
    step[:, 32:] = 255
    assert float(resized_float(on_grey_levels(step), 48).max()) > 255
