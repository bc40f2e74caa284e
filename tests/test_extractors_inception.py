"""The Inception instrument: a network computed by hand, the three peers on the same weights, names and digests."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evalkit import registry
from evalkit.errors import BadSetting, ModalityMismatch, RunFailed, UnknownName
from evalkit.extractors._inception_net import WIDTHS, Conv, InceptionNet, full_precision, network
from evalkit.extractors.inception import Inception
from evalkit.types import Arranging, Extractor

from .inceptions import apart, photographs, random_port, record_of, shapes
from .rows import rows

PHOTOGRAPHS = photographs(3, 96, 128)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The random weights in the torch port's file, as the constructor takes them."""
    path = tmp_path_factory.mktemp("weights") / "port.pth"
    torch.save(random_port(), path)
    return {"weights": record_of(path), "path": path}


@pytest.fixture(scope="module")
def made(weights):
    """One instance a variant, since each reads a file of 95 MB."""
    return cache(lambda variant="": Inception(variant, **weights))


# by hand ---------------------------------------------------------------------------------------------------


def test_without_kernels_every_activation_is_its_bias():
    port = {name: torch.zeros_like(value) for name, value in random_port().items() if not name.startswith("fc.")}
    port = {name: value + 1 if name.endswith((".bias", "running_var")) else value for name, value in port.items()}
    fc = {"fc.weight": torch.full((1008, 2048), 0.5), "fc.bias": torch.full((1008,), 7.0)}
    image = torch.rand(1, 3, 299, 299)
    row = network(port | fc, "pool3")(image)[0]
    assert (row[:2048] == 1).all() and (row[2048:] == 1024).all()
    assert (network(port | fc, "logits")(image) == 1031).all()
    assert (network(port | fc, "spatial")(image) == 1).all()


def test_batch_norm_is_folded_with_an_epsilon_of_a_thousandth():
    port = dict(random_port())
    port["Conv2d_1a_3x3.bn.running_var"] = torch.full((32,), 0.009)
    port["Conv2d_1a_3x3.bn.running_mean"] = torch.full((32,), 2.0)
    port["Conv2d_1a_3x3.bn.bias"] = torch.full((32,), 3.0)
    first = network(port, "64").Conv2d_1a_3x3
    torch.testing.assert_close(first.weight, port["Conv2d_1a_3x3.conv.weight"] * 10, rtol=1e-6, atol=0)
    torch.testing.assert_close(first.bias, torch.full((32,), 3 - 2 * 10.0))


def test_the_graph_has_94_convolutions_with_as_many_weights_as_torchvisions():
    convolutions = [module for module in shapes().values() if isinstance(module, Conv)]
    assert len(convolutions) == 94
    # torchvision's inception_v3 has 21,785,568 without auxiliary head and classifier, 34,432 of them in batch norms.
    assert sum(module.weight.numel() for module in convolutions) == 21_751_136


# against the peers -----------------------------------------------------------------------------------------


def _uint8(images):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def test_tf1_is_torch_fidelity_at_every_layer(made, weights):
    peer = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    layers = ["64", "192", "768", "2048", "logits_unbiased", "logits"]
    theirs = peer.FeatureExtractorInceptionV3("inception", layers, str(weights["path"]))
    seen = {}
    theirs.Mixed_6d.branch1x1.register_forward_hook(lambda _module, _given, got: seen.update(spatial=got))
    with torch.no_grad():
        expected = dict(zip(layers, theirs(_uint8(PHOTOGRAPHS)), strict=True))
    # Channels last, as the statistics that guided-diffusion publishes: (row, column, channel).
    expected["spatial"] = torch.from_numpy(seen["spatial"].numpy().transpose(0, 2, 3, 1)[..., :7].reshape(3, 2023))
    for layer in ("64", "192", "768", "spatial", "logits"):
        assert apart(rows(made(f"tf1:{layer}"), PHOTOGRAPHS, 3), expected[layer]) < 1e-5
    row = rows(made("tf1"), PHOTOGRAPHS, 3)
    assert apart(row[:, :2048], expected["2048"]) < 1e-5
    assert apart(row[:, 2048:], expected["logits_unbiased"]) < 1e-5
    # The photographs do differ for this network; without that the agreement would say nothing.
    assert float(expected["2048"].std(0).mean() / expected["2048"].mean()) > 0.02


def test_legacy_pytorch_is_pytorch_fid(made, monkeypatch):
    peer = pytest.importorskip("pytorch_fid.inception")
    monkeypatch.setattr(peer, "load_state_dict_from_url", lambda *_given, **_named: random_port())
    theirs = peer.InceptionV3([0, 1, 2, 3]).eval()
    with torch.no_grad():
        maps = theirs(_uint8(PHOTOGRAPHS).float() / 255)
    expected = [F.adaptive_avg_pool2d(found, 1).flatten(1) for found in maps]
    for layer, value in zip(("64", "192", "768"), expected, strict=False):
        assert apart(rows(made(f"legacy_pytorch:{layer}"), PHOTOGRAPHS, 3), value) < 1e-5
    assert apart(rows(made("legacy_pytorch"), PHOTOGRAPHS, 3)[:, :2048], expected[3]) < 1e-5


def test_torchmetrics_is_torchmetrics(made, weights):
    pytest.importorskip("torch_fidelity")
    from torchmetrics.image.fid import NoTrainInceptionV3

    theirs = NoTrainInceptionV3("inception", ["logits_unbiased"], str(weights["path"]))
    with torch.no_grad():
        expected = theirs(_uint8(PHOTOGRAPHS))
    assert apart(rows(made("torchmetrics"), PHOTOGRAPHS, 3)[:, 2048:], expected) < 1e-5


def test_clean_is_clean_fids_resizer_before_torch_fidelitys_network(made, weights):
    peer = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    resizer = pytest.importorskip("cleanfid.resize").build_resizer("clean")
    network_of_peer = peer.FeatureExtractorInceptionV3("inception", ["2048"], str(weights["path"]))
    sized = torch.from_numpy(np.stack([resizer(image) for image in PHOTOGRAPHS])).permute(0, 3, 1, 2)
    blocks = dict(network_of_peer.named_children())
    x = (sized - 128) / 128
    with torch.no_grad():
        for name, block in blocks.items():
            x = block(x) if name != "fc" else x
    assert apart(rows(made(), PHOTOGRAPHS, 3)[:, :2048], x.flatten(1)) < 1e-5


# orientation and properties --------------------------------------------------------------------------------


def test_the_more_noise_the_further_the_features(made):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=PHOTOGRAPHS[0].shape)
    levels = [(PHOTOGRAPHS[0] + spread * noise).clip(0, 255).astype(np.uint8) for spread in (0, 5, 20, 80)]
    row = rows(made(), levels, 4)[:, :2048]
    moved = (row - row[0]).norm(dim=1)
    assert 0 < float(moved[1]) < float(moved[2]) < float(moved[3])


def test_a_row_depends_on_neither_its_batch_nor_the_sizes_beside_it(made):
    instrument = made()
    images = [PHOTOGRAPHS[0], *photographs(1, 50, 31), PHOTOGRAPHS[1], np.zeros((1, 9, 3), np.uint8)]
    prepared = [instrument.prepare(image) for image in images]
    alone = torch.cat([instrument(instrument.arrange([image])) for image in prepared])
    assert apart(instrument(instrument.arrange(prepared)), alone) < 1e-6
    assert apart(instrument(instrument.arrange(prepared[:0:-1])), alone.flip(0)[:3]) < 1e-6


def test_arranging_keeps_the_order_and_gives_the_networks_input(made):
    instrument = made("tf1:64")
    black, white = np.zeros((5, 7, 3), np.uint8), np.full((9, 4, 3), 255, np.uint8)
    batch = instrument.arrange([instrument.prepare(image) for image in (black, white, black)])
    assert batch.shape == (3, 3, 299, 299) and batch.dtype == torch.float32
    for end in (batch.amin(dim=(1, 2, 3)), batch.amax(dim=(1, 2, 3))):
        assert end.tolist() == pytest.approx([-1, 0.9921875, -1], abs=1e-6)


def test_prepared_is_the_image_itself_and_a_text_is_refused(made):
    prepared = made().prepare(PHOTOGRAPHS[0])
    assert prepared.dtype == torch.uint8 and prepared.shape == (3, 96, 128) and prepared.is_contiguous()
    np.testing.assert_array_equal(prepared.permute(1, 2, 0), PHOTOGRAPHS[0])
    with pytest.raises(ModalityMismatch):
        made().prepare("a text")


def test_the_network_is_one_module_from_images_to_rows_without_gradients(made):
    instrument = made()
    instrument.to("cpu")
    assert isinstance(instrument._network, InceptionNet) and not instrument._network.training
    assert not any(parameter.requires_grad for parameter in instrument._network.parameters())
    assert instrument._network.Mixed_7c.branch3x3_2a.weight.is_contiguous(memory_format=torch.channels_last)


def test_whole_float32_is_asked_for_on_a_gpu_and_the_callers_choice_comes_back(monkeypatch):
    if not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip("torch before 2.9 has one switch")
    places = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [place.fp32_precision for place in places]
    with pytest.raises(KeyError), full_precision(torch.device("cuda")):
        assert [place.fp32_precision for place in places] == ["ieee", "ieee"]
        raise KeyError
    assert [place.fp32_precision for place in places] == before
    assert isinstance(torch.backends.cudnn.allow_tf32, bool), "the older switches can no longer be read"


# names, digests, facts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("", "inception"),
        ("clean", "inception"),
        ("torch", "inception"),
        ("tf1", "inception:tf1"),
        ("clean:768", "inception:768"),
        ("adm:spatial:tf1", "inception:tf1:spatial:adm"),
        ("logits:legacy_pytorch", "inception:legacy_pytorch:logits"),
        ("nvidia:torchmetrics", "inception:torchmetrics:nvidia"),
    ],
)
def test_a_variant_has_one_name_however_it_is_written(variant, name):
    instrument = Inception(variant)
    assert instrument.name == name
    assert registry.extractors.get(name)().digest == instrument.digest
    assert isinstance(instrument, Extractor) and isinstance(instrument, Arranging)


def test_the_digest_covers_everything_a_number_depends_on():
    variants = ["", "tf1", "legacy_pytorch", "torchmetrics", "64", "192", "768", "spatial", "logits", "nvidia", "adm"]
    digests = [Inception(variant).digest for variant in variants]
    assert len(set(digests)) == len(variants)
    record = Inception()._weights
    assert Inception(weights=replace(record, sha256="0" * 64)).digest not in digests
    assert Inception(weights=replace(record, file="elsewhere.pth")).digest == digests[0]


def test_heads_lie_within_the_row_and_only_class_scores_are_called_logits(made):
    assert dict(Inception().heads) == {"features": slice(0, 2048), "logits": slice(2048, 3056)}
    assert set(Inception("768").heads) == set(Inception("spatial").heads) == {"features"}
    for layer, width in WIDTHS.items():
        if layer != "pool3":
            assert Inception(layer).heads["features"] == slice(0, width)
    assert rows(made("tf1:spatial"), PHOTOGRAPHS[:1]).shape == (1, 2023)


def test_the_facts_say_in_words_what_it_does():
    about = Inception("tf1:spatial").about
    assert about["dialect"] == "tf1" and "TensorFlow 1" in about["resize"] and about["range"] == "(x - 128) / 128"
    assert "mixed_6/conv" in about["layer"]
    assert about["weights sha256"].startswith("6726825d") and "6726825d" in about["weights"]


def test_an_unknown_or_double_word_is_one_line():
    with pytest.raises(UnknownName, match="'legacy_pytorch'"):
        Inception("legacy-pytorch")
    with pytest.raises(UnknownName):
        Inception("tf1::768")
    with pytest.raises(BadSetting, match=r"one dialect .* 'clean' and 'tf1'"):
        Inception("clean:tf1")


def test_another_network_is_refused_by_the_tensor_that_shows_it(tmp_path):
    path = tmp_path / "imagenet.pth"
    torch.save(random_port() | {"fc.weight": torch.zeros(1000, 2048)}, path)
    with pytest.raises(RunFailed, match=r"fc.weight is \[1000, 2048\], expected \[1008, 2048\]"):
        Inception(weights=record_of(path), path=path).to("cpu")


def test_fetching_looks_for_the_file_and_reads_no_tensor(weights, tmp_path):
    instrument = Inception(**weights)
    instrument.fetch()
    assert instrument._network is None
    with pytest.raises(RunFailed, match=r"gone\.pth"):
        Inception(weights=weights["weights"], path=tmp_path / "gone.pth").fetch()


def test_it_is_imported_and_made_without_torchvision_and_without_weights(tmp_path):
    code = (
        "import sys\n"
        "for name in ('torchvision', 'open_clip', 'timm', 'cleanfid', 'torchmetrics'): sys.modules[name] = None\n"
        "from evalkit.extractors.inception import Inception\n"
        "print(Inception('tf1').name, Inception().digest[:7])\n"
    )
    environment = {"EVALKIT_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["inception:tf1", "sha256:"], done.stderr
    assert list(tmp_path.iterdir()) == []
