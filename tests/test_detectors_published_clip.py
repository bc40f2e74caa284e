"""Published heads on CLIP ViT-L/14: on a small random backbone of the same widths, by a second forward of the head."""

from __future__ import annotations

import open_clip
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2 as tv

from detectors._vit_l import BACKBONE
from detectors.rine import RINE, SIZES
from detectors.univfd import UnivFD
from evalkit.errors import RunFailed, UsageError
from evalkit.extractors._open_clip import _built
from evalkit.types import Detector, Published
from evalkit.weights import HUB
from tests.data import shared
from tests.networks import photographs

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HEADS = {UnivFD: ("univfd", "fc_weights.pth"), RINE: ("rine", "model_2class_trainable.pth")}


@pytest.fixture(scope="module")
def backbone():
    """24 blocks of width 1024 and an embedding of 768, as ViT-L/14, with few patches and narrow layers inside."""
    vision = {"image_size": 224, "layers": 24, "width": 1024, "patch_size": 112, "mlp_ratio": 0.0625}
    text = {"context_length": 4, "vocab_size": 8, "width": 64, "heads": 1, "layers": 1}
    with torch.device("meta"):
        network = open_clip.CLIP(768, vision, text, quick_gelu=True)
    network.to_empty(device="cpu")
    g = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(
                torch.empty(tensor.shape).uniform_(-1, 1, generator=g) / (tensor.shape[-1] if tensor.ndim else 1) ** 0.5
            )
    return network.eval().requires_grad_(False)


class Standing:
    """In the place of the published backbone."""

    def __init__(self, network) -> None:
        self._network = network
        self.about: dict[str, str] = {}

    def fetch(self) -> None:
        pass

    def to(self, device: str) -> None:
        pass

    def network(self, device: torch.device):
        return self._network


def on(backbone, cls, variant: str = "", path=None):
    detector = cls(variant, path=path)
    detector._tower = Standing(backbone)
    return detector


def as_published(image) -> torch.Tensor:
    crop = tv.CenterCrop(224)(Image.fromarray(image))
    return tv.functional.normalize(tv.functional.to_image(crop) / 255, MEAN, STD)


@torch.no_grad()
def class_tokens(backbone, x: torch.Tensor) -> torch.Tensor:
    """[B, 24, 1024]: the transformer written out block by block, from the network's parts."""
    visual = backbone.visual
    patches = visual.conv1(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([visual.class_embedding.expand(len(x), 1, -1), patches], dim=1) + visual.positional_embedding
    tokens, kept = visual.ln_pre(tokens), []
    for block in visual.transformer.resblocks:
        normed = block.ln_1(tokens)
        tokens = tokens + block.attn(normed, normed, normed, need_weights=False)[0]
        normed = block.ln_2(tokens)
        kept.append(normed[:, 0])
        tokens = tokens + block.mlp(normed)
    return torch.stack(kept, dim=1)


def test_univfd_is_one_linear_layer_on_the_embedding_as_it_is(backbone):
    path = shared("weights", *HEADS[UnivFD])
    detector = on(backbone, UnivFD, path=path)
    detector.obtain()
    images = photographs((300, 260), (100, 400))
    head = torch.load(path, map_location="cpu", weights_only=True)
    with torch.no_grad():
        embedded = backbone.encode_image(torch.stack([as_published(image) for image in images]))
    expected = torch.sigmoid(embedded @ head["weight"][0] + head["bias"])
    rows = detector(torch.stack([detector.prepare(image) for image in images]))
    torch.testing.assert_close(rows[:, 0], expected, rtol=1e-5, atol=1e-5)
    assert abs(float(embedded.norm(dim=1)[0]) - 1) > 0.1


def test_rine_agrees_with_its_head_written_down_from_its_weights(backbone):
    path = shared("weights", *HEADS[RINE])
    detector = on(backbone, RINE, path=path)
    detector.obtain()
    images = photographs((300, 260), (100, 400))
    t = torch.load(path, map_location="cpu", weights_only=True)
    x = class_tokens(backbone, torch.stack([as_published(image) for image in images]))

    def dense(x, name):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    for number in (1, 4, 7, 10):
        x = dense(x, f"proj1.{number}").clamp_min(0)
    shares = t["alpha"].exp() / t["alpha"].exp().sum(dim=1, keepdim=True)
    x = (shares * x).sum(dim=1)
    for number in (1, 4, 7, 10):
        x = dense(x, f"proj2.{number}").clamp_min(0)
    expected = dense(dense(dense(x, "head.0").clamp_min(0), "head.3").clamp_min(0), "head.6")
    rows = detector(torch.stack([detector.prepare(image) for image in images]))
    torch.testing.assert_close(rows, torch.sigmoid(expected), rtol=1e-5, atol=1e-5)
    alone = torch.cat([detector(detector.prepare(image)[None]) for image in images])
    torch.testing.assert_close(rows, alone, rtol=1e-5, atol=1e-6)


def heads_of(detector, bias: float) -> dict[str, torch.Tensor]:
    """Weights of zero with this last bias: the detector says it of every image."""
    tensors = {key: torch.zeros(like.shape) for key, like in detector.network().state_dict().items()}
    tensors[list(tensors)[-1]].fill_(bias)
    return tensors


@pytest.mark.parametrize(("cls", "variant"), [(UnivFD, ""), *((RINE, v) for v in RINE.releases)])
def test_positive_log_odds_mean_fake(backbone, cls, variant):
    detector = on(backbone, cls, variant)
    detector._learn(heads_of(detector, 2.0), {}, "nothing")
    batch = detector.prepare(photographs((230, 240))[0])[None]
    assert batch.shape[-3:] == (3, 224, 224) and (batch.ndim == 5) == (variant == "ldm")
    assert detector(batch).item() == pytest.approx(0.880797, abs=1e-5)


def test_ten_crops_are_averaged_before_the_sigmoid(backbone):
    detector = on(backbone, RINE, "ldm")
    g = torch.Generator().manual_seed(1)
    tensors = {
        k: torch.randn(t.shape, generator=g) / max(1, t.shape[-1]) ** 0.5 for k, t in heads_of(detector, 0).items()
    }
    detector._learn(tensors, {}, "nothing")
    crops = detector.prepare(photographs((230, 320))[0])
    single = on(backbone, RINE, "1class")
    single._learn(tensors, {}, "nothing")
    log_odds = single.log_odds_of(single.normalised(crops))
    assert log_odds.std() > 0
    assert detector(crops[None]).item() == pytest.approx(torch.sigmoid(log_odds.mean()).item(), abs=1e-5)


def test_gradients_reach_the_pixels(backbone):
    detector = on(backbone, UnivFD)
    tensors = heads_of(detector, 0.0)
    tensors["weight"] += 1
    detector._learn(tensors, {}, "nothing")
    images = torch.full((1, 3, 224, 224), 100.0, requires_grad=True)
    (slope,) = torch.autograd.grad(detector.log_odds(images).sum(), images)
    assert slope.abs().sum() > 0


def test_the_published_backbone_has_the_parts_that_are_read():
    with torch.device("meta"):
        network = _built("ViT-L-14", True)
    blocks = network.visual.transformer.resblocks
    assert len(blocks) == 24 and blocks[0].ln_2.weight.shape == (1024,)
    assert network.visual.proj.shape == (1024, 768)


@pytest.mark.parametrize("cls", HEADS)
def test_the_protocols_are_kept_and_the_backbone_is_part_of_the_identity(cls, at_home):
    detector = cls()
    assert isinstance(detector, Detector) and isinstance(detector, Published)
    assert detector.settings["backbone"] == HUB[BACKBONE].sha256
    with pytest.raises(UsageError, match="train 'clip_probe' instead"):
        detector.fit(None, None, seed=0)
    with pytest.raises(RunFailed, match="are not on this machine"):
        detector.obtain()
    with pytest.raises(RunFailed, match="ViT-L-14"):
        here = cls(path=shared("weights", *HEADS[cls]))
        here.obtain()


def test_each_release_of_rine_has_a_size():
    assert set(SIZES) == {release.weights for release in RINE.releases.values()}
