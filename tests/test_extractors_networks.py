"""DINOv2 and CLIP: the published arithmetic, with random weights in files of the published layout."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evalkit.errors import ModalityMismatch, RunFailed, UnknownName
from evalkit.extractors.clip import Clip
from evalkit.extractors.dinov2 import DINOv2, at_grid
from evalkit.types import Extractor
from evalkit.weights import HUB

from .networks import photographs, scaled, written
from .rows import rows

IMAGES = photographs((224, 224), (300, 260), (120, 200))
CAPTION = "a small red house beside a quiet lake under heavy clouds " * 30


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    """Nothing is remembered in, or found in, this user's own caches."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


# ------------------------------------------------------------------------------------------------ DINOv2


def dinov2_shapes(width=384, depth=12):
    """The names and shapes of Meta's file of ViT-S/14, as published."""
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 1370, width), "mask_token": (1, width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, 14, 14), "patch_embed.proj.bias": (width,)}
    for i in range(depth):
        own = {"norm1": (width,), "attn.qkv": (3 * width, width), "attn.proj": (width, width), "norm2": (width,)}
        own |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
        for part, shape in own.items():
            shapes |= {f"blocks.{i}.{part}.weight": shape, f"blocks.{i}.{part}.bias": shape[:1]}
        shapes |= {f"blocks.{i}.ls1.gamma": (width,), f"blocks.{i}.ls2.gamma": (width,)}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    return {name: torch.empty(shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    path = tmp_path_factory.mktemp("dinov2") / "dinov2_vits14_pretrain.pth"
    tensors = scaled(dinov2_shapes())
    return tensors, written(tensors, path), path


def cubic(t):
    """Keys' kernel with a = -0.75, which torch and the published code use."""
    t, a = abs(t), -0.75
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def bicubic_matrix(old, new, scale):
    """Rows of weights that read `new` places, `scale` old places apart, by hand."""
    weights = np.zeros((new, old))
    for i in range(new):
        source = (i + 0.5) * scale - 0.5
        for tap in range(math.floor(source) - 1, math.floor(source) + 3):
            weights[i, min(max(tap, 0), old - 1)] += cubic(source - tap)
    return weights


def by_hand(p, images):
    """The class token of a DINOv2 written out: float64, no library network."""
    p = {name: tensor.double() for name, tensor in p.items()}
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (images.double() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    x = F.conv2d(x, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=14).flatten(2).transpose(1, 2)
    read = torch.from_numpy(bicubic_matrix(37, 16, 37 / 16.1))
    grid = torch.einsum("ia,jb,abd->ijd", read, read, p["pos_embed"][0, 1:].view(37, 37, -1)).flatten(0, 1)
    x = torch.cat([(p["cls_token"] + p["pos_embed"][:, :1]).expand(len(x), -1, -1), x + grid], dim=1)
    batch, tokens, width = x.shape

    def norm(x, name):
        return F.layer_norm(x, (width,), p[f"{name}.weight"], p[f"{name}.bias"], 1e-6)

    for i in range(12):
        b = f"blocks.{i}"
        qkv = norm(x, f"{b}.norm1") @ p[f"{b}.attn.qkv.weight"].T + p[f"{b}.attn.qkv.bias"]
        q, k, v = qkv.view(batch, tokens, 3, 6, 64).permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.transpose(2, 3)) / 8).softmax(-1) @ v
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, width)
        x = x + p[f"{b}.ls1.gamma"] * (mixed @ p[f"{b}.attn.proj.weight"].T + p[f"{b}.attn.proj.bias"])
        hidden = F.gelu(norm(x, f"{b}.norm2") @ p[f"{b}.mlp.fc1.weight"].T + p[f"{b}.mlp.fc1.bias"])
        x = x + p[f"{b}.ls2.gamma"] * (hidden @ p[f"{b}.mlp.fc2.weight"].T + p[f"{b}.mlp.fc2.bias"])
    return norm(x, "norm")[:, 0]


def test_positions_are_read_as_the_published_code_reads_them():
    positions = torch.randn(1, 1370, 5, generator=torch.Generator().manual_seed(0))
    read = bicubic_matrix(37, 16, 37 / 16.1)
    grid = np.einsum("ia,jb,abd->ijd", read, read, positions[0, 1:].double().view(37, 37, 5).numpy())
    found = at_grid(positions)
    np.testing.assert_allclose(found[0, 1:].view(16, 16, 5).numpy(), grid, atol=2e-5)
    assert torch.equal(found[:, 0], positions[:, 0])
    assert torch.equal(at_grid(positions[:, :257]), positions[:, :257])


@pytest.mark.parametrize(("dialect", "n"), [("dgm", 2), ("edm2", 1)])
def test_dinov2_agrees_with_the_network_written_out(dinov2, dialect, n):
    tensors, record, path = dinov2
    stream = torch.get_rng_state()
    ours = DINOv2(f"vits14:{dialect}", weights=record, path=path)
    found = rows(ours, IMAGES[1 : 1 + n])
    assert torch.equal(torch.get_rng_state(), stream), "the caller's random stream was drawn from"
    assert found.dtype == torch.float32 and found.shape == (n, 384)
    prepared = torch.stack([ours.prepare(image) for image in IMAGES[1 : 1 + n]])
    assert relative(found.double(), by_hand(tensors, prepared)) < 1e-5
    if n > 1:
        # Random weights of a good scale tell images apart, or the agreement would say nothing.
        assert relative(found[0], found[1]) > 0.05
        assert relative(ours(prepared), found) < 1e-5, "a row depends on its batch"


def test_dinov2_dialects_differ_by_rounding_only_and_squash():
    dgm, edm2 = DINOv2().prepare(IMAGES[1]), DINOv2("edm2").prepare(IMAGES[1])
    assert dgm.dtype == torch.uint8 and edm2.dtype == torch.float32
    # Pillow rounds after each of its two passes.
    assert 0.1 < float((dgm.float() - edm2.clamp(0, 255)).abs().max()) < 1.5
    assert dgm.shape == DINOv2().prepare(photographs((50, 400))[0]).shape == (3, 224, 224)


def test_dinov2_names_digests_and_refusals(dinov2):
    _, record, path = dinov2
    assert DINOv2().name == DINOv2("vitl14:dgm").name == "dinov2"
    assert DINOv2("edm2:vitb14").name == "dinov2:vitb14:edm2"
    assert DINOv2("vitb14").heads["features"] == slice(0, 768)
    assert isinstance(DINOv2(), Extractor)
    digests = {DINOv2().digest, DINOv2("edm2").digest, DINOv2("vitb14").digest}
    assert len(digests) == 3 and DINOv2("dgm").digest in digests
    assert HUB["dinov2_vitl14"].sha256 in DINOv2().about.values()
    for words in ("vitx14", "dgm:edm2", "vits14:vitb14", "edm2:edm2"):
        with pytest.raises(UnknownName, match="variant of dinov2"):
            DINOv2(words)
    with pytest.raises(RunFailed, match="not pinned"):
        _ = DINOv2("vitg14").digest
    with pytest.raises(RunFailed, match="does not fit dinov2:vitb14"):
        DINOv2("vitb14", weights=record, path=path).to("cpu")
    with pytest.raises(ModalityMismatch):
        DINOv2().prepare("a text")


def test_an_unpinned_file_is_known_by_its_own_digest(dinov2, monkeypatch):
    _, record, path = dinov2
    given = DINOv2("vitg14", path=path)
    given.fetch()
    assert given.digest == DINOv2("vitg14", weights=record).digest
    assert given.about["weights sha256"] == f"{record.sha256} (not pinned)"
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    with pytest.raises(RunFailed, match=r"huggingface\.co/timm/vit_giant_patch14_dinov2") as refused:
        DINOv2("vitg14").fetch()
    assert "\n" not in str(refused.value)


# ------------------------------------------------------------------------------------------------ CLIP


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The smallest model of open_clip, random; its file holds half-precision tensors and three numbers, as OpenAI's."""
    open_clip = pytest.importorskip("open_clip")
    with torch.random.fork_rng():
        model = open_clip.CLIP(**open_clip.get_model_config("ViT-S-32-alt"), quick_gelu=True)
    tensors = {name: tensor.half() for name, tensor in scaled(model.state_dict(), seed=1).items()}
    model.load_state_dict(tensors)
    path = tmp_path_factory.mktemp("clip") / "small.pt"
    numbers = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    return model.eval(), written(tensors | numbers, path), path


@pytest.fixture(scope="module")
def ours(clip):
    return Clip("ViT-S-32-alt:openai", weights=clip[1], path=clip[2])


def test_clip_agrees_with_open_clip_and_takes_quick_gelu(clip, ours):
    transforms = pytest.importorskip("torchvision.transforms")
    from PIL import Image

    view = transforms.Compose(
        [
            transforms.Resize(224, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    with torch.no_grad():
        expected = clip[0].encode_image(torch.stack([view(Image.fromarray(image)) for image in IMAGES]))
    stream = torch.get_rng_state()
    found = rows(ours, IMAGES)
    assert torch.equal(torch.get_rng_state(), stream), "the caller's random stream was drawn from"
    assert found.dtype == torch.float32 and found.shape == (3, 256)
    assert relative(found, expected) < 1e-5
    assert relative(found[0], found[1]) > 0.05
    assert not torch.allclose(found.norm(dim=1), torch.ones(3), atol=0.01)
    gelu = Clip("ViT-S-32-alt:plain", weights=clip[1], path=clip[2])
    assert relative(rows(gelu, IMAGES), expected) > 1e-3


def test_a_long_caption_keeps_its_end_token(clip, ours):
    open_clip = pytest.importorskip("open_clip")
    texts = ours.texts()
    tokens = texts.prepare(CAPTION)
    short = texts.prepare("a red house")
    assert len(CAPTION.split()) >= 300
    assert tokens.shape == short.shape == (77,) and int(tokens[76]) == int(short[4]) == 49407
    assert tokens[:76].tolist() == open_clip.SimpleTokenizer()(CAPTION, 400)[0, :76].tolist()
    # The embedding is read at the end token: what comes after the cut changes nothing, what comes before does.
    found = rows(texts, [CAPTION, CAPTION + "and a dog", "and a dog " + CAPTION])
    assert torch.equal(found[0], found[1]) and relative(found[2], found[0]) > 1e-3


def test_texts_agree_with_open_clip_and_share_the_network(clip, ours):
    texts, depicted = ours.texts(), ours.texts("A photo depicts ")
    assert isinstance(texts, Extractor) and texts.modality == "text"
    assert texts.name == "clip:ViT-S-32-alt:openai.text"
    prompts = ["a red house", "two cats on a mat"]
    with torch.no_grad():
        expected = clip[0].encode_text(torch.stack([texts.prepare(prompt) for prompt in prompts]))
    assert relative(rows(texts, prompts), expected) < 1e-5
    assert torch.equal(rows(depicted, prompts), rows(texts, [f"A photo depicts {prompt}" for prompt in prompts]))
    assert len({ours.digest, texts.digest, depicted.digest}) == 3
    assert texts.heads == ours.heads == {"features": slice(0, 256)}
    with pytest.raises(ModalityMismatch):
        texts.prepare(IMAGES[0])


def test_clip_stays_in_float32_whatever_is_set_outside(ours):
    expected = rows(ours, IMAGES[:1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rows(ours, IMAGES[:1]), expected)


def test_clip_names_views_and_refusals(clip):
    assert Clip().name == Clip("ViT-B-32-quickgelu:openai").name == Clip("ViT-B-32").name == "clip"
    large = Clip("ViT-L-14-336")
    assert large.name == "clip:ViT-L-14-336:openai" and large.heads["features"] == slice(0, 768)
    # CMMD cuts the square out before it resizes, the others after; 336 px for its network.
    assert large.about["resize"].startswith("centre square cut out, resized to 336")
    assert Clip().about["resize"].startswith("shorter side to 224 px, centre 224 x 224 cut out")
    assert Clip().about["weights sha256"] == HUB["clip_vit_b_32"].sha256
    assert Clip().digest == Clip("ViT-B-32:openai").digest != large.digest
    with pytest.raises(UnknownName, match="did you mean 'ViT-L-14'"):
        Clip("ViT-L-144:openai")
    unpinned = Clip("ViT-L-14:laion2b_s32b_b82k")
    with pytest.raises(RunFailed, match="not pinned"):
        _ = unpinned.digest
    with pytest.raises(UnknownName, match="weights of the CLIP model ViT-B-32"):
        Clip("ViT-B-32:laion2b_s34b").fetch()
    with pytest.raises(RunFailed, match="does not fit"):
        Clip("ViT-B-32:mine", weights=clip[1], path=clip[2]).to("cpu")


def test_published_tags_bring_their_own_view(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    squashed = Clip("ViT-B-16-SigLIP:webli", path=tmp_path / "absent.pt")
    with pytest.raises(RunFailed, match="no file"):
        squashed.fetch()
    assert squashed.about["resize"].startswith("resized to 224 x 224") and "[0.5, 0.5, 0.5]" in squashed.about["range"]
    with pytest.raises(RunFailed, match=r"huggingface\.co/laion/CLIP-ViT-B-32") as refused:
        Clip("ViT-B-32:laion2b_s34b_b79k").fetch()
    assert "EVALKIT_OFFLINE" in str(refused.value) and "\n" not in str(refused.value)


def test_constructing_loads_no_network_library():
    code = (
        "import sys; from evalkit.extractors.clip import Clip; from evalkit.extractors.dinov2 import DINOv2;"
        "from evalkit.extractors.convnext import ConvNeXt; from evalkit.extractors.lpips import Lpips;"
        "made = [Clip(), Clip('ViT-L-14-336:openai'), DINOv2('edm2'), ConvNeXt('tiny'), Lpips('vgg')];"
        "[(one.name, one.heads, one.digest, one.about) for one in made];"
        "loaded = {'open_clip', 'timm', 'torchvision', 'torchmetrics', 'huggingface_hub'} & set(sys.modules);"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
