"""Published detectors with the authors' own small weights: recorded numbers, label direction, and a second forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from detectors.cifake import CIFAKE
from detectors.ladeda import LaDeDa, TinyLaDeDa
from detectors.mesonet import MesoNet
from evalkit.types import Mapped, Published
from tests.data import shared
from tests.networks import photographs

TINY = {"forensynth": "ForenSynth_Tiny_LaDeDa.pth", "wildrf": "WildRF_Tiny_LaDeDa.pth"}
MESO = {
    "df": "Meso4_DF.h5",
    "f2f": "Meso4_F2F.h5",
    "inception": "MesoInception_DF.h5",
    "inception_f2f": "MesoInception_F2F.h5",
}


def images_in(*parts: str, every: int = 1) -> list[np.ndarray]:
    files = sorted(p for p in shared("data", "image", *parts).rglob("*") if p.suffix in (".jpg", ".png"))
    return [np.asarray(Image.open(path).convert("RGB")) for path in files[::every]]


def p_fake(detector, images, size: int = 64) -> np.ndarray:
    prepared = [detector.prepare(image) for image in images]
    batches = [torch.stack(prepared[i : i + size]) for i in range(0, len(prepared), size)]
    return torch.cat([detector(batch) for batch in batches])[:, 0].numpy()


def obtained(cls, variant: str, *parts: str):
    detector = cls(variant, path=shared("weights", *parts))
    detector.obtain()
    return detector


def on_planes(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).double() / 255


# ---------------------------------------------------------------------------------------------- Tiny-LaDeDa


def tiny_by_hand(path: Path, images: list[np.ndarray]) -> np.ndarray:
    """Log-odds by a forward written down from the paper in float64, with shifts instead of a gradient kernel."""
    t = {key: value.double() for key, value in torch.load(path, map_location="cpu", weights_only=True).items()}
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = F.pad((on_planes(images) - mean) / std, (1, 1, 1, 1))

    def at(row, column):
        return x[:, :, 1 + row : 257 + row, 1 + column : 257 + column]

    x = 2 * at(1, 1) - 2 * at(-1, -1) + at(1, 0) + at(0, 1) - at(-1, 0) - at(0, -1)

    def normed(x, name):
        scale = t[f"{name}.weight"] / (t[f"{name}.running_var"] + 1e-5).sqrt()
        shift = t[f"{name}.bias"] - t[f"{name}.running_mean"] * scale
        return (x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)).clamp_min(0)

    x = torch.einsum("oi,bihw->bohw", t["conv1.weight"][:, :, 0, 0], x)
    x = normed(F.conv2d(x, t["conv2.weight"]), "bn1")
    x = normed(torch.einsum("oi,bihw->bohw", t["layer1.0.conv1.weight"][:, :, 0, 0], x), "layer1.0.bn1")
    x = normed(F.conv2d(x, t["layer1.0.conv2.weight"], stride=2), "layer1.0.bn2")
    return (x.mean((2, 3)) @ t["fc.weight"][0] + t["fc.bias"]).numpy()


@pytest.mark.parametrize("variant", TINY)
def test_tiny_ladeda_agrees_with_a_forward_written_by_hand(variant):
    detector = obtained(TinyLaDeDa, variant, "tiny_ladeda", TINY[variant])
    images = photographs((256, 256), (256, 256), seed=3)
    expected = tiny_by_hand(shared("weights", "tiny_ladeda", TINY[variant]), images)
    np.testing.assert_allclose(p_fake(detector, images), 1 / (1 + np.exp(-expected)), atol=1e-5)
    grey = torch.stack([detector.prepare(image) for image in images]).float()
    np.testing.assert_allclose(detector.log_odds(grey).detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_tiny_ladeda_has_1297_learnt_numbers_and_a_map_whose_mean_is_the_score():
    detector = obtained(TinyLaDeDa, "wildrf", "tiny_ladeda", TINY["wildrf"])
    learnt = [t for key, t in detector._tensors.items() if "running" not in key and "batches" not in key]
    assert sum(t.numel() for t in learnt) == 1297
    batch = torch.stack([detector.prepare(image) for image in photographs((200, 300))])
    scores = detector.score_map(batch)
    assert isinstance(detector, Mapped) and not detector.localises
    assert scores.shape == (1, 126, 126)
    assert torch.sigmoid(scores.mean()).item() == pytest.approx(detector(batch).item(), abs=1e-6)


def test_a_patch_score_of_tiny_ladeda_reads_9_x_9_pixels_less_what_padding_adds():
    """A pixel far from a patch does not move its score: the reach is 3 (gradient) + 2 + 2 = 7 at stride 2."""
    detector = obtained(TinyLaDeDa, "wildrf", "tiny_ladeda", TINY["wildrf"])
    batch = torch.stack([detector.prepare(image) for image in photographs((256, 256))])
    other = batch.clone()
    other[0, :, 128, 128] += 60
    moved = (detector.score_map(batch) != detector.score_map(other))[0].nonzero()
    assert len(moved) and int((moved.max(0).values - moved.min(0).values).max()) < 4


def test_wildrf_tiny_ladeda_says_of_the_faces_what_its_published_preprocessing_says():
    """Without the normalisation, or with the filter of LaDeDa, under 3 % of these images are called fake."""
    detector = obtained(TinyLaDeDa, "wildrf", "tiny_ladeda", TINY["wildrf"])
    real, fake = (p_fake(detector, images_in("faces", side, every=10)) for side in ("real", "fake"))
    # Of all 280 on a side: 0.86 of the real and 0.80 of the fake ones, AUROC 0.455. Standard error of 28: 0.07.
    assert (real > 0.5).mean() == pytest.approx(0.86, abs=0.2)
    assert (fake > 0.5).mean() == pytest.approx(0.80, abs=0.2)


# ---------------------------------------------------------------------------------------------- CIFAKE


def test_cifake_calls_real_what_it_was_recorded_to():
    detector = obtained(CIFAKE, "torch", "cifake_cnn", "paper_model_cifake.pth")
    images = images_in("cifar10_subset", every=2)
    assert {image.shape for image in images} == {(32, 32, 3)}
    p = p_fake(detector, images, size=500)
    # Recorded: mean P(real) 0.937, 96.1 % called real on CIFAR-10's test set. Of 1,000: standard error 0.006.
    assert 1 - p.mean() == pytest.approx(0.937, abs=0.018)
    assert (p < 0.5).mean() == pytest.approx(0.961, abs=0.018)


@pytest.mark.parametrize(("variant", "file"), [("torch", "paper_model_cifake.pth"), ("keras", "cifake_cnn.h5")])
def test_cifake_agrees_with_a_forward_in_numpy(variant, file):
    """Convolution as a sum over shifts and Keras' own order of axes, in float64; nothing of torch's."""
    if variant == "keras":
        h5py = pytest.importorskip("h5py")
        with h5py.File(shared("weights", "cifake_cnn", file)) as h5:
            group = h5["model_weights"]
            at = {
                layer: [group[f"{layer}/sequential/{layer}/{part}"][()] for part in ("kernel", "bias")]
                for layer in ("conv2d", "conv2d_1", "dense", "dense_1")
            }
        kernels, padding = [at["conv2d"], at["conv2d_1"]], 0
        dense = [at["dense"], at["dense_1"]]
    else:
        t = {k: v.numpy() for k, v in torch.load(shared("weights", "cifake_cnn", file), weights_only=True).items()}
        kernels = [(t[f"{n}.weight"].transpose(2, 3, 1, 0), t[f"{n}.bias"]) for n in ("conv1", "conv2")]
        rows = t["fc1.weight"].reshape(64, 32, 8, 8).transpose(2, 3, 1, 0).reshape(2048, 64)
        dense, padding = [(rows, t["fc1.bias"]), (t["fc2.weight"].T, t["fc2.bias"])], 1
    images = photographs((32, 32), (32, 32), (32, 32), seed=4)
    x = np.stack(images) / 255.0
    for kernel, bias in kernels:
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        height = x.shape[1] - 2
        x = sum(x[:, i : i + height, j : j + height] @ kernel[i, j] for i in range(3) for j in range(3)) + bias
        half = height // 2
        x = np.maximum(x, 0)[:, : 2 * half, : 2 * half].reshape(len(x), half, 2, half, 2, -1).max((2, 4))
    x = np.maximum(x.reshape(len(x), -1) @ dense[0][0] + dense[0][1], 0)
    p_real = 1 / (1 + np.exp(-(x @ dense[1][0] + dense[1][1])[:, 0]))
    detector = obtained(CIFAKE, variant, "cifake_cnn", file)
    np.testing.assert_allclose(p_fake(detector, images), 1 - p_real, atol=1e-5)
    assert np.ptp(p_real) > 0.01


# ---------------------------------------------------------------------------------------------- MesoNet


@pytest.mark.parametrize("variant", ["df", "inception"])
def test_mesonet_tells_its_authors_examples(variant):
    pytest.importorskip("h5py")
    detector = obtained(MesoNet, variant, "mesonet", MESO[variant])
    real, fake = (p_fake(detector, images_in("mesonet_examples", side)) for side in ("real", "df"))
    assert len(real) == len(fake) == 2
    assert fake.min() > 0.9 and real.max() < 0.1


@pytest.mark.parametrize("variant", MESO)
def test_mesonet_agrees_with_a_forward_in_keras_order_of_axes(variant):
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared("weights", "mesonet", MESO[variant])) as h5:
        found = {}
        h5.visititems(lambda name, item: found.update({name: item[()]}) if hasattr(item, "shape") else None)
    layers = {tuple(name.replace(":0", "").split("/")[-2:]): value.astype(np.float64) for name, value in found.items()}

    def numbers(kind):
        return sorted({int(layer.rpartition("_")[2]) for layer, _ in layers if layer.startswith(kind)})

    convs, norms, dense = (numbers(kind) for kind in ("conv2d", "batch", "dense"))

    def conv(x, number, dilation=1):
        kernel, bias = (layers[f"conv2d_{number}", part] for part in ("kernel", "bias"))
        reach = kernel.shape[0] // 2 * dilation
        side = x.shape[1]
        x = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        out = sum(
            x[:, i * dilation : i * dilation + side, j * dilation : j * dilation + side] @ kernel[i, j]
            for i in range(kernel.shape[0])
            for j in range(kernel.shape[0])
        )
        return np.maximum(out + bias, 0)

    def mixed(x, first):
        parts = [conv(x, first)]
        parts += [conv(conv(x, first + 1 + 2 * k), first + 2 + 2 * k, 1 + k) for k in range(3)]
        return np.concatenate(parts, axis=-1)

    images = photographs((256, 256), seed=5)
    x = np.stack(images) / 255.0
    for stage in range(4):
        if variant.startswith("inception"):
            x = mixed(x, convs[7 * stage]) if stage < 2 else conv(x, convs[12 + stage])
        else:
            x = conv(x, convs[stage])
        part = {
            p: layers[f"batch_normalization_{norms[stage]}", p]
            for p in ("gamma", "beta", "moving_mean", "moving_variance")
        }
        x = part["gamma"] * (x - part["moving_mean"]) / np.sqrt(part["moving_variance"] + 1e-3) + part["beta"]
        pool = 4 if stage == 3 else 2
        side = x.shape[1] // pool
        x = x.reshape(len(x), side, pool, side, pool, -1).max((2, 4))
    x = x.reshape(len(x), -1) @ layers[f"dense_{dense[0]}", "kernel"] + layers[f"dense_{dense[0]}", "bias"]
    x = np.where(x > 0, x, 0.1 * x) @ layers[f"dense_{dense[1]}", "kernel"] + layers[f"dense_{dense[1]}", "bias"]
    detector = obtained(MesoNet, variant, "mesonet", MESO[variant])
    np.testing.assert_allclose(p_fake(detector, images), 1 - 1 / (1 + np.exp(-x[:, 0])), atol=1e-5)


# ---------------------------------------------------------------------------------------------- all of them


def test_the_file_of_another_detector_is_refused_by_its_digest():
    from evalkit.errors import RunFailed

    wrong = TinyLaDeDa("wildrf", path=shared("weights", "tiny_ladeda", TINY["forensynth"]))
    with pytest.raises(RunFailed, match="not the ones recorded") as caught:
        wrong.obtain()
    assert "\n" not in str(caught.value)
    assert wrong.digest.startswith("unfitted:")


def test_the_layout_of_another_detector_is_refused_by_name():
    from evalkit.errors import RunFailed

    unpinned = LaDeDa("wildrf", path=shared("weights", "tiny_ladeda", TINY["wildrf"]))
    with pytest.raises(RunFailed, match=r"conv1\.weight has shape \(8, 3, 1, 1\), expected \(64, 3, 1, 1\)"):
        unpinned.obtain()


def test_variants_differ_in_name_and_digest_and_are_published():
    made = [obtained(TinyLaDeDa, variant, "tiny_ladeda", file) for variant, file in TINY.items()]
    assert [d.name for d in made] == ["tiny_ladeda", "tiny_ladeda:wildrf"]
    assert len({d.digest for d in made}) == len({d.recipe for d in made}) == 2
    assert all(isinstance(d, Published) and "research" in d.licence for d in made)
    assert "Reddit" in made[1].trained_on
