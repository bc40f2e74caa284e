"""The resize dialects of Inception: numbers by hand, and each peer's own resizer on the same images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.extractors import _resize
from evalkit.extractors._resize import DIALECTS, in_range, resize

from .inceptions import photographs

SIZES = [(8, 8), (32, 32), (31, 77), (299, 299), (256, 512), (600, 299), (1024, 1024), (1, 1), (1, 40), (513, 1)]


def resized(image, name, side=299):
    """float32 [side, side, 3] in grey levels."""
    batch = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    return resize(batch, DIALECTS[name], side)[0].permute(1, 2, 0).numpy()


def noise(height, width, seed=0):
    """The hardest image for a resizer: every pixel of its own."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


# by hand ---------------------------------------------------------------------------------------------------


def test_tf1_puts_output_i_at_i_times_the_scale_and_repeats_the_last_pixel():
    image = np.array([[0, 100], [0, 100]], np.uint8)[..., None].repeat(3, 2)
    np.testing.assert_array_equal(resized(image, "tf1", 4)[0, :, 0], [0, 50, 100, 100])


def test_half_pixel_centres_put_the_first_and_last_output_half_a_step_inside():
    image = np.array([[0, 100], [0, 100]], np.uint8)[..., None].repeat(3, 2)
    for name in ("legacy_pytorch", "torchmetrics"):
        np.testing.assert_allclose(resized(image, name, 4)[0, :, 0], [0, 25, 75, 100], atol=1e-4)


def test_only_the_antialiased_dialects_average_a_checkerboard_to_grey():
    board = (np.indices((1196, 1196)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    for name, spread in {"clean": 0.5, "torchmetrics": 0.5}.items():
        inner = resized(board, name)[5:-5, 5:-5]
        assert abs(inner - 127.5).max() < spread
    # Every fourth pixel is of one colour: what aliasing is.
    assert resized(board, "tf1").max() == 0


def test_ranges_at_black_grey_and_white():
    levels = torch.tensor([0.0, 127.5, 128.0, 255.0])
    assert in_range(levels, DIALECTS["clean"]).tolist() == [-1, -0.00390625, 0, 0.9921875]
    assert in_range(levels, DIALECTS["legacy_pytorch"]).tolist()[::3] == [-1, 1]


@pytest.mark.parametrize("name", DIALECTS)
def test_an_image_of_the_right_size_comes_back_as_it_is(name):
    image = noise(299, 299)
    np.testing.assert_allclose(resized(image, name), image, atol=2e-4)


# against the peers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_clean_is_clean_fids_resizer_to_a_hundredth_of_a_grey_level(size):
    build_resizer = pytest.importorskip("cleanfid.resize").build_resizer
    for image in (noise(*size), photographs(1, *size)[0]):
        assert abs(resized(image, "clean") - build_resizer("clean")(image)).max() < 0.01


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 99))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_clean_is_clean_fids_resizer_at_any_size(height, width, seed):
    build_resizer = pytest.importorskip("cleanfid.resize").build_resizer
    image = noise(height, width, seed)
    assert abs(resized(image, "clean") - build_resizer("clean")(image)).max() < 0.01


@pytest.mark.parametrize("size", SIZES)
def test_tf1_is_torch_fidelitys_resizer_to_a_ten_thousandth_of_a_grey_level(size):
    peer = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    image = noise(*size)
    batch = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float()
    theirs = peer.interpolate_bilinear_2d_like_tensorflow1x(batch, size=(299, 299), align_corners=False)
    assert abs(resized(image, "tf1") - theirs[0].permute(1, 2, 0).numpy()).max() < 1e-4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.filterwarnings("ignore")
def test_legacy_pytorch_is_clean_fids_resizer_of_that_name(size):
    build_resizer = pytest.importorskip("cleanfid.resize").build_resizer
    image = noise(*size)
    np.testing.assert_array_equal(resized(image, "legacy_pytorch"), build_resizer("legacy_pytorch")(image))


# orientation and properties --------------------------------------------------------------------------------


def test_the_dialects_are_four_different_images():
    image = photographs(1, 600, 500)[0]
    made = [resized(image, name) for name in DIALECTS]
    for i, one in enumerate(made):
        assert all(np.sqrt(((one - other) ** 2).mean()) > 0.05 for other in made[:i])


@pytest.mark.parametrize("name", DIALECTS)
def test_a_set_too_large_for_one_piece_is_resized_in_pieces_to_the_same_bits(name, monkeypatch):
    batch = torch.from_numpy(np.stack(photographs(5, 40, 64))).permute(0, 3, 1, 2).contiguous()
    whole = resize(batch, DIALECTS[name], 299)
    monkeypatch.setattr(_resize, "AT_ONCE", 2 * batch[0].numel())
    assert torch.equal(resize(batch, DIALECTS[name], 299), whole)
    assert float(whole.min()) >= 0 and float(whole.max()) < 255.001
