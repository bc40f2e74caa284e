"""ConvNeXt and LPIPS: against torchvision, torchmetrics and the networks written out, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evalkit.errors import ModalityMismatch, RunFailed, UnknownName
from evalkit.extractors._center import on_grey_levels, resized_float
from evalkit.extractors._lpips_stacks import STACKS
from evalkit.extractors.convnext import ConvNeXt
from evalkit.extractors.lpips import HEADS, Lpips
from evalkit.types import Extractor
from evalkit.weights import HUB

from .networks import photographs, scaled, written
from .rows import rows

IMAGES = photographs((256, 256), (64, 64), (40, 90))


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    """Nothing is remembered in, or found in, this user's own caches."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


# ------------------------------------------------------------------------------------------------ ConvNeXt


def test_convnext_tiny_agrees_with_torchvision(tmp_path):
    models = pytest.importorskip("torchvision.models")
    with torch.random.fork_rng():
        theirs = models.convnext_tiny().eval()
    tensors = scaled(theirs.state_dict())
    theirs.load_state_dict(tensors)
    path = tmp_path / "convnext_tiny-983f1562.pth"
    ours = ConvNeXt("tiny", weights=written(tensors, path), path=path)
    stream = torch.get_rng_state()
    found = rows(ours, IMAGES[:2])
    assert torch.equal(torch.get_rng_state(), stream), "the caller's random stream was drawn from"
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    sized = torch.cat([resized_float(on_grey_levels(image), 224) for image in IMAGES[:2]]) / 255
    with torch.no_grad():
        expected = theirs.features((sized - mean.view(3, 1, 1)) / std.view(3, 1, 1)).mean(dim=(2, 3))
    assert found.shape == (2, 768) and found.dtype == torch.float32
    assert relative(found, expected) < 1e-5
    # Not only what all images share: what tells the two apart agrees too.
    assert relative(found[0] - found[1], expected[0] - expected[1]) < 1e-3


def v2_base_shapes():
    """The names and shapes of timm's file of ConvNeXt V2-B."""
    dims, depths = (128, 256, 512, 1024), (3, 3, 27, 3)
    shapes = {"stem.0.weight": (128, 3, 4, 4), "stem.0.bias": (128,), "stem.1.weight": (128,), "stem.1.bias": (128,)}
    for s, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
        if s:
            before = dims[s - 1]
            down = {"0.weight": (before,), "0.bias": (before,), "1.weight": (dim, before, 2, 2), "1.bias": (dim,)}
            shapes |= {f"stages.{s}.downsample.{part}": shape for part, shape in down.items()}
        for b in range(depth):
            own = {"conv_dw": (dim, 1, 7, 7), "norm": (dim,), "mlp.fc1": (4 * dim, dim)}
            own |= {"mlp.grn": (4 * dim,), "mlp.fc2": (dim, 4 * dim)}
            for part, shape in own.items():
                name = f"stages.{s}.blocks.{b}.{part}"
                shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    shapes |= {"head.norm.weight": (1024,), "head.norm.bias": (1024,)}
    shapes |= {"head.fc.weight": (10, 1024), "head.fc.bias": (10,)}
    return {name: torch.empty(shape) for name, shape in shapes.items()}


def v2_base_by_hand(p, x):
    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], 1e-6)

    def affine(x, name):
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    x = F.conv2d(x, p["stem.0.weight"], p["stem.0.bias"], stride=4).permute(0, 2, 3, 1)
    x = norm(x, "stem.1")
    for s, depth in enumerate((3, 3, 27, 3)):
        if s:
            name = f"stages.{s}.downsample"
            x = norm(x, f"{name}.0").permute(0, 3, 1, 2)
            x = F.conv2d(x, p[f"{name}.1.weight"], p[f"{name}.1.bias"], stride=2).permute(0, 2, 3, 1)
        for b in range(depth):
            name = f"stages.{s}.blocks.{b}"
            weight, bias = p[f"{name}.conv_dw.weight"], p[f"{name}.conv_dw.bias"]
            y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=3, groups=x.shape[-1]).permute(0, 2, 3, 1)
            y = F.gelu(affine(norm(y, f"{name}.norm"), f"{name}.mlp.fc1"))
            # Global response normalisation (Woo et al. 2023, section 3.3).
            size = y.pow(2).sum(dim=(1, 2), keepdim=True).sqrt()
            share = size / (size.mean(dim=-1, keepdim=True) + 1e-6)
            y = p[f"{name}.mlp.grn.weight"] * (y * share) + p[f"{name}.mlp.grn.bias"] + y
            x = x + affine(y, f"{name}.mlp.fc2")
    return x.mean(dim=(1, 2))


def test_convnext_v2_base_agrees_with_the_network_written_out(tmp_path):
    tensors = scaled(v2_base_shapes())
    path = tmp_path / "model.safetensors"
    ours = ConvNeXt(weights=written(tensors, path), path=path)
    prepared = ours.prepare(IMAGES[0])
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = v2_base_by_hand(tensors, ((prepared / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1))[None])
    found = ours(prepared[None])
    assert found.shape == (1, 1024)
    assert relative(found, expected) < 1e-5


def test_convnext_names_and_refusals(monkeypatch):
    assert ConvNeXt().name == ConvNeXt("v2-base").name == "convnext" and ConvNeXt("tiny").name == "convnext:tiny"
    assert isinstance(ConvNeXt("tiny"), Extractor)
    assert ConvNeXt("tiny").about["weights sha256"] == HUB["convnext_tiny"].sha256
    with pytest.raises(UnknownName, match="did you mean 'tiny'"):
        ConvNeXt("tny")
    with pytest.raises(ModalityMismatch):
        ConvNeXt().prepare("a text")
    with pytest.raises(RunFailed, match="not pinned"):
        _ = ConvNeXt().digest
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    with pytest.raises(RunFailed, match=r"huggingface\.co/timm/convnextv2_base"):
        ConvNeXt().fetch()


# ------------------------------------------------------------------------------------------------ LPIPS


@pytest.fixture(scope="module", params=list(STACKS))
def lpips(request, tmp_path_factory):
    """One backbone, random, in a file with torchvision's names (and a classifier that LPIPS does not need)."""
    stack = STACKS[request.param]
    with torch.device("meta"):
        own = stack.build().state_dict()
    tensors = {f"features.{name}": tensor for name, tensor in scaled(own, seed=2).items()}
    path = tmp_path_factory.mktemp("lpips") / f"{request.param}.pth"
    record = written(tensors | {"classifier.1.weight": torch.zeros(3, 3)}, path)
    return request.param, tensors, Lpips(request.param, weights=record, path=path)


def torchmetrics_lpips(backbone, tensors, monkeypatch):
    """The network of torchmetrics with these weights; its own first weights are not drawn, which takes seconds."""
    functional = pytest.importorskip("torchmetrics.functional.image.lpips")
    for draw in ("kaiming_uniform_", "kaiming_normal_", "normal_", "uniform_"):
        monkeypatch.setattr(torch.nn.init, draw, lambda tensor, *_, **__: tensor)
    theirs = functional._LPIPS(pretrained=False, net=backbone, pnet_rand=True)
    slices = theirs.net.slices if backbone == "squeeze" else [getattr(theirs.net, f"slice{i}") for i in range(1, 6)]
    named = {name: layer for part in slices for name, layer in part.named_children()}
    for name, layer in named.items():
        own = layer.state_dict()
        layer.load_state_dict({part: tensors[f"features.{name}.{part}"] for part in own})
    assert max(map(int, named)) == STACKS[backbone].taps[-1]
    heads = Path(functional.__file__).parent / "lpips_models" / f"{backbone}.pth"
    theirs.load_state_dict(torch.load(heads, map_location="cpu", weights_only=True), strict=False)
    return theirs.eval()


def test_squared_distance_of_two_rows_is_lpips(lpips, monkeypatch):
    backbone, tensors, ours = lpips
    theirs = torchmetrics_lpips(backbone, tensors, monkeypatch)
    prepared = torch.stack([ours.prepare(image) for image in IMAGES])
    with torch.no_grad():
        expected = theirs(prepared[[0, 0, 1]], prepared[[1, 2, 2]]).flatten()
    found = ours(prepared).double()
    squared = (found[[0, 0, 1]] - found[[1, 2, 2]]).square().sum(dim=1)
    assert float(expected.min()) > 0.01
    np.testing.assert_allclose(squared.numpy(), expected.double().numpy(), rtol=1e-5)


def test_lpips_rows_have_the_declared_width_and_do_not_depend_on_the_batch(lpips):
    _, _, ours = lpips
    assert isinstance(ours, Extractor)
    found = rows(ours, IMAGES)
    assert found.dtype == torch.float32 and found.shape == (3, ours.heads["features"].stop)
    assert relative(rows(ours, IMAGES, 3), found) < 1e-5


def test_an_image_of_the_right_size_is_not_resampled():
    prepared = Lpips().prepare(IMAGES[1])
    assert torch.equal(prepared, torch.from_numpy(IMAGES[1]).permute(2, 0, 1).float() / 127.5 - 1)


def test_what_a_generator_makes_is_seen_with_its_fractions():
    grey = on_grey_levels(IMAGES[0])
    assert torch.equal(Lpips().batch_of(grey)[0], Lpips().prepare(IMAGES[0]))
    assert float((Lpips().batch_of(grey + 0.3) - Lpips().batch_of(grey)).abs().max()) == pytest.approx(
        0.3 / 127.5, rel=0.01
    )


def test_lpips_names_and_refusals(lpips):
    backbone, _, ours = lpips
    assert Lpips().name == Lpips("alex").name == "lpips" and Lpips("vgg").name == "lpips:vgg"
    assert Lpips().about["weights sha256"] == HUB["alexnet"].sha256
    assert HEADS[backbone].sha256 in ours.about.values() and "64 x 64" in ours.about["resize"]
    assert ours.digest != Lpips(backbone).digest
    with pytest.raises(UnknownName, match="variant of lpips"):
        Lpips("resnet")
    with pytest.raises(ModalityMismatch):
        Lpips().prepare("a text")
