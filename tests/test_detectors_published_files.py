"""Weight files of published detectors: what the command line says of them, Keras files, and files without a pin."""

from __future__ import annotations

import importlib
import json
import sys

import numpy as np
import pytest
import torch

from detectors import BUILTIN
from detectors._published import PublishedJudge
from evalkit.cli import run
from evalkit.errors import RunFailed
from evalkit.registry import detectors as door
from evalkit.weights import DETECTORS, HUB, SHIPPED, Weights, digest_of_file, load_weights
from tests.conftest import failed


def published() -> dict[str, type[PublishedJudge]]:
    classes = {
        name: getattr(importlib.import_module(t.partition(":")[0]), t.partition(":")[2]) for name, t in BUILTIN.items()
    }
    return {name: cls for name, cls in classes.items() if issubclass(cls, PublishedJudge)}


def test_every_release_has_a_record_and_every_record_a_release():
    released = {release.weights for cls in published().values() for release in cls.releases.values()}
    # The one that judges nothing: it reads a watermark.
    assert released == {*DETECTORS} - {"rivagan"}
    assert not {*DETECTORS} & {*HUB, *SHIPPED}
    for record in DETECTORS.values():
        assert record.url.startswith("https://") and record.card.startswith("https://") and record.licence
        assert record.trained_on and len(record.sha256) in (0, 64) and bool(record.size) == bool(record.sha256)
    # One name in a folder of weights means one file.
    assert len({record.name for record in DETECTORS.values()}) == len(DETECTORS)


def test_the_list_of_detectors_shows_licence_and_training_set(capsys):
    assert run(["list", "detectors"]) == 0
    text = capsys.readouterr().out
    facts = {listing.name: listing.facts for listing in door.listings()}
    for name, cls in published().items():
        assert cls.name == name and facts[name]["licence"] == cls.licence and facts[name]["trained"] == cls.trained
        assert f"published weights: {cls.licence}; trained on {cls.trained}" in text
        # What the class says at a glance is what its first weight file says of itself.
        first = DETECTORS[next(iter(cls.releases.values())).weights]
        assert cls.licence.split(";")[0].split(" in ")[0] in first.licence


def test_the_list_of_weights_knows_them(at_home, capsys):
    assert run(["weights", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["weights"]}
    assert set(DETECTORS) <= set(rows)
    assert rows["ladeda_wildrf"]["pinned"] == "no digest is published" and rows["ladeda_wildrf"]["why"] == "absent"


def test_a_file_without_a_pin_is_neither_fetched_nor_kept_nor_called_right(at_home, capsys, monkeypatch):
    file = at_home / "WildRF_LaDeDa.pth"
    file.write_bytes(b"something")
    for arguments in (["ladeda_wildrf"], ["ladeda_wildrf", "--from", str(file)]):
        code, line = failed(capsys, ["weights", "fetch", *arguments])
        assert code == 3 and "no digest of them is published" in line and "EVALKIT_WEIGHTS" in line
    assert run(["weights", "verify", "ladeda_wildrf"]) == 4
    assert "absent" in capsys.readouterr().out
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(at_home))
    assert run(["weights", "verify", "ladeda_wildrf"]) == 0
    assert capsys.readouterr().out == f"no pin ladeda_wildrf  {file}\n"


# ---------------------------------------------------------------------------------------------- Keras files


def recorded(path) -> Weights:
    return Weights(path.name, digest_of_file(path), "none", "nothing", url="https://weights.invalid/h5")


@pytest.fixture
def keras_file(at_home):
    """A Keras file of a convolution and a dense layer, and what Keras keeps beside them."""
    h5py = pytest.importorskip("h5py")

    def write(name: str, whole_model: bool):
        path = at_home / name
        with h5py.File(path, "w") as file:
            group = file.create_group("model_weights") if whole_model else file
            group["conv2d_7/conv2d_7/kernel:0"] = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
            group["dense/seq/dense/bias"] = np.ones(2, np.float32)
            if whole_model:
                file["optimizer_weights/adam/dense/bias"] = np.zeros(2, np.float32)
        return path

    return write


@pytest.mark.parametrize("whole_model", [True, False])
def test_a_keras_file_gives_its_weights_by_layer_and_part(keras_file, whole_model):
    path = keras_file("net.h5", whole_model)
    found = load_weights(recorded(path), path)
    assert set(found) == {"conv2d_7/kernel", "dense/bias"}
    assert torch.equal(found["conv2d_7/kernel"], torch.arange(12.0).reshape(1, 2, 3, 2))
    assert torch.equal(found["dense/bias"], torch.ones(2))


def test_a_damaged_keras_file_is_one_line(keras_file):
    path = keras_file("net.h5", True)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RunFailed, match="cannot be read as tensors") as caught:
        load_weights(recorded(path), path)
    assert "\n" not in str(caught.value)


def test_without_h5py_the_error_says_what_to_install(at_home, monkeypatch):
    path = at_home / "net.h5"
    path.write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(RunFailed, match="pip install h5py"):
        load_weights(recorded(path), path)


def test_another_network_of_keras_is_told_by_its_layers():
    from detectors._keras import named_for_torch

    dense = {"dense_1/kernel": torch.zeros(8, 2), "dense_1/bias": torch.zeros(2)}
    with pytest.raises(ValueError, match="1 layers dense, expected 2"):
        named_for_torch(dense, [], [], ["fc0", "fc1"], (2, 2, 2))
    del dense["dense_1/bias"]
    with pytest.raises(ValueError, match="lack dense_1/bias"):
        named_for_torch(dense, [], [], ["fc0"], (2, 2, 2))


def test_layers_of_keras_are_taken_in_the_order_they_were_made():
    from detectors._keras import named_for_torch

    made = {f"dense_{n}/{part}": torch.full((1, 1) if part == "kernel" else (1,), float(n))
            for n in (10, 9) for part in ("kernel", "bias")}  # fmt: skip
    found = named_for_torch(made, [], [], ["first", "second"], (1, 1, 1))
    assert found["first.weight"].item() == 9 and found["second.bias"].item() == 10
