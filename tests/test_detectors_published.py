"""Published detectors on weights drawn at random: networks, label direction, preprocessing, refusals, the folder."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torchvision.transforms import v2 as tv

import detectors._published
from detectors._published import PublishedJudge
from detectors._views import Centre, Squeezed, TenSquares, Whole
from detectors.cifake import CIFAKE
from detectors.cnndetection import CNNDetection
from detectors.dmid import DMID
from detectors.ladeda import LaDeDa, TinyLaDeDa
from detectors.mesonet import MesoNet
from detectors.npr_progan import NPRProGAN
from evalkit.errors import BadRecord, ModalityMismatch, RunFailed, UnknownName, UnreadableSample, UsageError
from evalkit.types import Detector, Differentiable, Published
from evalkit.weights import DETECTORS, Weights
from tests.networks import photographs

# What these cost grows with the image; they judge a small one as well as a large one.
ON_PIXELS = [
    (CNNDetection, ""),
    (DMID, ""),
    (NPRProGAN, "native"),
    (TinyLaDeDa, ""),
    (MesoNet, "inception"),
    (CIFAKE, ""),
]
ALL = [*ON_PIXELS, (CNNDetection, "0.1:crop"), (NPRProGAN, ""), (LaDeDa, "wildrf"), (MesoNet, "")]


@lru_cache(maxsize=8)
def tensors_of(cls: type[PublishedJudge], variant: str, seed: int) -> dict[str, torch.Tensor]:
    """Random weights under the network's names, scaled so that nothing vanishes or grows."""
    with torch.device("meta"):
        layout = cls(variant).network().state_dict()
    g, made = torch.Generator().manual_seed(seed), {}
    for key, like in layout.items():
        if not like.is_floating_point():
            continue
        noise = torch.randn(like.shape, generator=g)
        around = 1.0 if key.endswith(("running_var", "weight")) else 0.0
        made[key] = noise * (2 / like[0].numel()) ** 0.5 if like.ndim > 1 else around + 0.1 * noise
    return made


@lru_cache(maxsize=8)
def drawn(cls: type[PublishedJudge], variant: str = "", seed: int = 0, bias: float | None = None):
    """The detector with random weights; with a bias, its last layer says just that of every image."""
    detector = cls(variant)
    tensors = dict(tensors_of(cls, variant, seed))
    if bias is not None:
        last = list(tensors)[-1].rpartition(".")[0]
        tensors[f"{last}.weight"] = torch.zeros_like(tensors[f"{last}.weight"])
        tensors[f"{last}.bias"] = torch.full((1,), bias)
    detector._learn(tensors, {"weights sha256": "0" * 64}, detector.trained_on)
    return detector


def said(detector, image) -> float:
    return float(detector(detector.prepare(image)[None])[0, 0])


# ---------------------------------------------------------------------------------------------- label direction


@pytest.mark.parametrize(("cls", "variant"), [*ON_PIXELS, (LaDeDa, "")])
def test_positive_log_odds_mean_fake_unless_the_authors_made_real_the_positive_class(cls, variant):
    images = torch.from_numpy(photographs((32, 40))[0]).permute(2, 0, 1)[None]
    towards_fake = -1 if cls in (MesoNet, CIFAKE) else 1
    for bias in (3.0, -3.0):
        detector = drawn(cls, variant, bias=bias)
        # LaDeDa takes any even size; 256 x 256 would cost a second.
        batch = images if cls is LaDeDa else detector.release.view.of(images.float())
        assert detector(batch).item() == pytest.approx(1 / (1 + np.exp(-towards_fake * bias)), abs=1e-6)
        if cls is not LaDeDa:
            assert detector.log_odds(images.float()).item() == pytest.approx(towards_fake * bias, abs=1e-5)


# ---------------------------------------------------------------------------------------------- networks


def by_torchvision(detector, change=lambda network: network) -> torch.nn.Module:
    network = change(torchvision.models.resnet50(num_classes=1))
    network.load_state_dict({**detector._tensors}, strict=False)
    return network.eval()


def normalised(image: np.ndarray) -> torch.Tensor:
    return tv.functional.normalize(
        torch.from_numpy(image).permute(2, 0, 1)[None] / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )


@torch.no_grad()
def test_cnndetection_is_torchvisions_resnet_50():
    detector, image = drawn(CNNDetection), photographs((70, 91))[0]
    expected = torch.sigmoid(by_torchvision(detector)(normalised(image)))
    assert said(detector, image) == pytest.approx(expected.item(), abs=1e-5)


@torch.no_grad()
def test_dmid_is_torchvisions_resnet_50_without_the_first_two_strides():
    def at_full_resolution(network):
        network.conv1.stride, network.maxpool.stride = (1, 1), 1
        return network

    detector, image = drawn(DMID), photographs((41, 36))[0]
    network = by_torchvision(detector, at_full_resolution)
    expected = torch.sigmoid(network(normalised(image)))
    assert said(detector, image) == pytest.approx(expected.item(), abs=1e-5)


@torch.no_grad()
def test_npr_is_the_first_half_of_torchvisions_resnet_50_on_what_two_resizes_lose():
    detector, image = drawn(NPRProGAN, "native"), photographs((45, 62))[0]
    network = torchvision.models.resnet50(num_classes=1)
    network.conv1 = torch.nn.Conv2d(3, 64, 3, 2, 1, bias=False)
    network.layer3 = network.layer4 = torch.nn.Identity()
    network.fc = torch.nn.Linear(512, 1)
    network.load_state_dict(detector._tensors, strict=False)
    x = normalised(image)[:, :, :44, :62]
    half = F.interpolate(x, scale_factor=0.5, mode="nearest", recompute_scale_factor=True)
    x = x - F.interpolate(half, scale_factor=2, mode="nearest", recompute_scale_factor=True)
    expected = torch.sigmoid(network.eval()(x * 2 / 3))
    assert said(detector, image) == pytest.approx(expected.item(), abs=1e-5)


@torch.no_grad()
def test_ladeda_agrees_with_a_forward_written_down_from_its_weights():
    detector, image = drawn(LaDeDa), photographs((64, 64))[0]
    t = detector._tensors
    x = normalised(image)
    x = (x - x[:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)) * 2 / 3

    def normed(x, name):
        return F.batch_norm(
            x, *(t[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")), eps=1e-5
        )

    x = F.relu(normed(F.conv2d(F.conv2d(x, t["conv1.weight"]), t["conv2.weight"]), "bn1"))
    for stage, (blocks, stride) in enumerate(((3, 2), (4, 2), (6, 2), (3, 1)), 1):
        for i in range(blocks):
            at, step = f"layer{stage}.{i}", stride if i == 0 else 1
            short = x
            if f"{at}.downsample.0.weight" in t:
                short = normed(F.conv2d(x, t[f"{at}.downsample.0.weight"], stride=step), f"{at}.downsample.1")
            y = F.relu(normed(F.conv2d(x, t[f"{at}.conv1.weight"]), f"{at}.bn1"))
            y = F.relu(normed(F.conv2d(y, t[f"{at}.conv2.weight"], stride=step), f"{at}.bn2"))
            y = normed(F.conv2d(y, t[f"{at}.conv3.weight"]), f"{at}.bn3")
            x = F.relu(y + short[:, :, : y.shape[2], : y.shape[3]])
    kernels = {key: tensor.shape[-1] for key, tensor in t.items() if key.endswith("conv2.weight")}
    assert {key for key, side in kernels.items() if side == 3} == {
        "conv2.weight", "layer1.0.conv2.weight", "layer2.0.conv2.weight"
    }  # fmt: skip
    scores = (x * t["fc.weight"].view(1, -1, 1, 1)).sum(1) + t["fc.bias"]
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    torch.testing.assert_close(detector.score_map(batch), scores, rtol=1e-4, atol=1e-4)
    assert detector(batch).item() == pytest.approx(torch.sigmoid(scores.mean()).item(), abs=1e-5)
    with torch.device("meta"):
        assert detector.network()(torch.empty(1, 3, 256, 256)).shape == (1, 31, 31)


# ---------------------------------------------------------------------------------------------- preprocessing


SIZES = [(300, 411), (224, 224), (225, 500), (100, 301), (301, 99), (7, 5)]


@pytest.mark.parametrize("size", SIZES)
def test_a_centre_crop_is_torchvisions_and_pads_with_black(size):
    image = photographs(size)[0]
    expected = torch.from_numpy(np.array(tv.CenterCrop(224)(Image.fromarray(image)))).permute(2, 0, 1)
    assert torch.equal(Centre(224).prepare(image), expected)


@pytest.mark.parametrize("size", SIZES[:3])
def test_ten_crops_are_torchvisions(size):
    image = photographs(size)[0]
    crops = tv.TenCrop(224)(Image.fromarray(image))
    expected = torch.stack([torch.from_numpy(np.array(crop)).permute(2, 0, 1) for crop in crops])
    assert torch.equal(TenSquares(224).prepare(image), expected)


@pytest.mark.parametrize("size", [(300, 411), (100, 64), (256, 256)])
@pytest.mark.parametrize("filter", ["bilinear", "nearest"])
def test_a_squeeze_is_torchvisions_resize_of_both_sides(size, filter):
    image = photographs(size)[0]
    resize = tv.Resize((256, 256), interpolation=tv.InterpolationMode(filter))
    expected = torch.from_numpy(np.array(resize(Image.fromarray(image)))).permute(2, 0, 1)
    view = Squeezed(256, filter)
    assert torch.equal(view.prepare(image), expected)
    # What gradients go through is the same resize but for rounding to whole grey levels, which Pillow does twice.
    on_floats = view.of(torch.from_numpy(image).permute(2, 0, 1)[None].float())[0]
    assert float((on_floats - expected).abs().max()) < 1.6


def test_images_too_small_for_a_detector_are_named_with_their_numbers():
    for view, size in ((TenSquares(224), (223, 400)), (Whole(even=True), (9, 1))):
        with pytest.raises(UnreadableSample, match=f"{size[1]} x {size[0]}"):
            view.prepare(np.zeros((*size, 3), np.uint8))
    assert NPRProGAN("native").prepare(photographs((9, 12))[0]).shape == (3, 8, 12)


# ---------------------------------------------------------------------------------------------- every detector


@pytest.mark.parametrize(("cls", "variant"), ON_PIXELS)
def test_rows_are_probabilities_and_do_not_depend_on_the_batch(cls, variant):
    detector = drawn(cls, variant)
    batch = torch.stack([detector.prepare(image) for image in photographs((32, 36), (32, 36), (32, 36))])
    rows = detector(batch)
    assert rows.shape == (3, 1) and rows.dtype == torch.float32 and rows.min() >= 0 and rows.max() <= 1
    torch.testing.assert_close(rows, torch.cat([detector(one[None]) for one in batch]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cls", "variant"), ON_PIXELS)
def test_gradients_reach_the_pixels_and_lead_uphill(cls, variant):
    detector = drawn(cls, variant)
    assert isinstance(detector, Differentiable)
    images = torch.stack([torch.from_numpy(p).permute(2, 0, 1).float() for p in photographs((32, 32))])
    images.requires_grad_()
    before = detector.log_odds(images)
    (slope,) = torch.autograd.grad(before.sum(), images)
    assert slope.abs().sum() > 0
    with torch.no_grad():
        step = 1e-2 * slope / slope.norm()
        gained = detector.log_odds(images + step) - before
    assert float(gained) == pytest.approx(float((slope * step).sum()), rel=0.3, abs=1e-6)


@pytest.mark.parametrize(("cls", "variant"), ALL)
def test_the_protocols_are_kept_and_nothing_is_fitted(cls, variant):
    detector = cls(variant)
    assert isinstance(detector, Detector) and isinstance(detector, Published)
    assert detector.digest == f"unfitted:{detector.recipe}" and detector.threshold == (0.2, 0.8)
    assert detector.licence and detector.trained_on and cls.trained
    with pytest.raises(UsageError, match=r"published as it is; train '\w+' instead"):
        detector.fit(None, None, seed=0)
    for act in (lambda: detector(torch.zeros(1, 3, 32, 32)), lambda: detector.save(Path("nowhere"))):
        with pytest.raises(RunFailed, match=r"call obtain\(\)"):
            act()
    with pytest.raises(ModalityMismatch):
        detector.prepare("a text")
    with pytest.raises(UnknownName):
        cls("imagenet")


def test_names_and_recipes_tell_all_variants_apart():
    every = [
        cls(v) for cls in (CNNDetection, DMID, NPRProGAN, LaDeDa, TinyLaDeDa, MesoNet, CIFAKE) for v in cls.releases
    ]
    assert len({d.name for d in every}) == len({d.recipe for d in every}) == len(every)


def test_a_folder_gives_the_same_judge_back_and_no_other(tmp_path):
    detector = drawn(TinyLaDeDa, "wildrf")
    detector.save(tmp_path)
    back = TinyLaDeDa("wildrf")
    back.load(tmp_path)
    image = photographs((40, 40))[0]
    assert back.digest == detector.digest and said(back, image) == said(detector, image)
    assert drawn(TinyLaDeDa, "wildrf", seed=1).digest != detector.digest
    with pytest.raises(BadRecord):
        TinyLaDeDa().load(tmp_path)


# ---------------------------------------------------------------------------------------------- weight files


@pytest.fixture
def npr_file(tmp_path, monkeypatch):
    """Writes a checkpoint as the authors of NPR write theirs, and records it."""
    monkeypatch.setattr(detectors._published, "DETECTORS", table := dict(DETECTORS))

    def write(change=lambda tensors: tensors, wrap="module."):
        tensors = change({k.replace("fc.", "fc1."): t for k, t in drawn(NPRProGAN)._tensors.items() if "num_" not in k})
        path = tmp_path / "npr.pth"
        torch.save({"model": {f"{wrap}{key}": tensor for key, tensor in tensors.items()}}, path)
        table["npr_progan_3090"] = Weights(
            path.name, hashlib.sha256(path.read_bytes()).hexdigest(), "none", "noise", url="https://weights.invalid/n"
        )
        return path

    return write


@pytest.mark.parametrize("wrap", ["module.", ""])
def test_a_published_checkpoint_is_read_with_or_without_its_wrapper(npr_file, wrap):
    detector = NPRProGAN(path=npr_file(wrap=wrap))
    detector.obtain()
    image = photographs((50, 64))[0]
    assert said(detector, image) == said(drawn(NPRProGAN), image)
    assert detector.digest.startswith("sha256:") and detector.trained_on == "noise"


def test_another_layout_is_one_line_with_the_first_difference(npr_file):
    def without(key):
        return lambda tensors: {k: t for k, t in tensors.items() if k != key}

    cases = [
        (without("layer1.0.bn2.bias"), r"they lack layer1\.0\.bn2\.bias \(64,\)"),
        (lambda t: {**t, "fc2.bias": torch.ones(1)}, r"they hold fc2\.bias"),
        (lambda t: {**t, "fc1.weight": torch.ones(1, 99)}, r"fc\.weight has shape \(1, 99\), expected \(1, 512\)"),
        (lambda t: {**t, "fc1.bias": torch.full((1,), torch.nan)}, "not a finite number"),
    ]
    for change, words in cases:
        detector = NPRProGAN(path=npr_file(change))
        with pytest.raises(RunFailed, match=words) as caught:
            detector.obtain()
        assert "\n" not in str(caught.value) and detector.digest.startswith("unfitted:")


def test_a_file_that_nobody_pinned_is_taken_only_where_the_user_names_it(npr_file, monkeypatch, tmp_path):
    written = npr_file()
    place = tmp_path / "mine" / "NPR.pth"
    place.parent.mkdir()
    written.rename(place)
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    kept = tmp_path / "cache" / "weights" / "NPR.pth"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(place.read_bytes())
    detector = NPRProGAN("tables")
    with pytest.raises(RunFailed, match="no digest of them is published") as caught:
        detector.obtain()
    assert "EVALKIT_WEIGHTS" in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(place.parent))
    detector.obtain()
    sha256 = hashlib.sha256(place.read_bytes()).hexdigest()
    assert sha256 in detector.about["weights sha256"] and detector._facts["weights sha256"] == sha256
