"""Backends of a network on the CPU: rows known by hand, torch's rows, who is tried and chosen, who is refused."""

from __future__ import annotations

import itertools
import sys
import time
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evalkit import doctor, registry, settings
from evalkit.errors import BadSetting, RunFailed, UnknownName
from evalkit.extractors import _backends
from evalkit.extractors._backends import AGREEMENT, BACKENDS, Backend, Runner, apart, candidates, fastest
from evalkit.extractors.inception import Inception

from .inceptions import photographs, random_port, record_of

PHOTOGRAPHS = photographs(3, 64, 80)
NEEDED = {"openvino": ("openvino",), "onnx": ("onnx", "onnxruntime")}


@pytest.fixture(autouse=True)
def nothing_asked_for(monkeypatch):
    for name in ("EVALKIT_BACKEND", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=list(NEEDED))
def backend(request):
    """The name of each backend that is installed."""
    if not BACKENDS[request.param].is_installed:
        pytest.skip(f"{request.param} is not installed")
    return request.param


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Inception with random weights, one instance for each variant and use."""
    path = tmp_path_factory.mktemp("weights") / "port.pth"
    torch.save(random_port(), path)
    return cache(lambda variant="", use="": Inception(variant, weights=record_of(path), path=path))


class Line(nn.Module):
    """Rows known by hand: relu(2 * mean of the first channel - 1), and twice that."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1).requires_grad_(False)
        self.conv.weight.copy_(torch.tensor([[2.0, 0, 0], [4.0, 0, 0]]).view(2, 3, 1, 1))
        self.conv.bias.copy_(torch.tensor([-1.0, -2.0]))

    def forward(self, images):
        return torch.relu(self.conv(images)).mean(dim=(2, 3))


def batch_of(prepared_by, images=PHOTOGRAPHS):
    return prepared_by.arrange([prepared_by.prepare(image) for image in images])


# by hand ---------------------------------------------------------------------------------------------------


def test_a_backend_gives_rows_known_by_hand_for_every_size_of_batch(backend):
    run = BACKENDS[backend].make(Line().eval(), torch.zeros(5, 3, 4, 6))
    for values in ([0.0, 1, 2.5], [3.0], [1.0] * 7):
        images = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 4, 6)
        expected = [[max(0, 2 * v - 1), max(0, 4 * v - 2)] for v in values]
        for laid in (images.contiguous(), images.contiguous(memory_format=torch.channels_last)):
            rows = run(laid)
            assert rows.dtype == torch.float32 and rows.tolist() == expected


def test_rows_of_an_earlier_batch_are_not_written_over(backend):
    run = BACKENDS[backend].make(Line().eval(), torch.zeros(1, 3, 4, 6))
    first = run(torch.ones(2, 3, 4, 6))
    run(torch.full((2, 3, 4, 6), 9.0))
    assert first.tolist() == [[1, 2], [1, 2]]


def test_apart_is_the_largest_difference_over_the_largest_value():
    expected = torch.tensor([[1.0, -4.0], [2.0, 0.0]])
    assert apart(expected + torch.tensor([[0.0, 0.02], [-0.04, 0.0]]), expected) == pytest.approx(0.01)
    assert apart(expected[:1], expected) == apart(expected.log(), expected) == float("inf")


@given(st.floats(1e-3, 1e3), st.integers(0, 1000))
def test_apart_has_no_unit(scale, seed):
    rows, expected = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert apart(scale * rows, scale * expected) == pytest.approx(apart(rows, expected), rel=1e-9)


# agreement -------------------------------------------------------------------------------------------------


def test_features_equal_those_of_torch(made, monkeypatch, backend):
    by_torch = made()
    batch = batch_of(by_torch)
    expected = by_torch(batch)
    assert by_torch.backend == "torch"
    monkeypatch.setenv("EVALKIT_BACKEND", backend)
    other = made(use=backend)
    assert other.backend is None
    assert apart(other(batch), expected) < AGREEMENT
    # The conversion left the network as it was; from here on torch has nothing to do with the rows.
    assert torch.equal(other._by_torch(batch), expected) and not other._network.training
    monkeypatch.setattr(other._runner, "_by_torch", None)
    assert apart(other(batch[1:]), expected[1:]) < AGREEMENT
    alone = torch.cat([other(batch[i : i + 1]) for i in range(3)])
    assert apart(alone, expected) < AGREEMENT
    assert other.backend == backend
    assert other.digest == by_torch.digest and other.about == by_torch.about and other.name == by_torch.name


def test_nothing_is_reported_to_the_makers():
    """OpenVINO's import and converter send events through a package of its own, unless that cannot be imported."""
    if not BACKENDS["openvino"].is_installed:
        pytest.skip("openvino is not installed")
    BACKENDS["openvino"].make(Line().eval(), torch.zeros(1, 3, 4, 6))
    assert "openvino.tools.ovc.telemetry_stub" in sys.modules
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]


# who is chosen ---------------------------------------------------------------------------------------------


def fake(seconds=0.0, error=0.0, made_of=None):
    """A backend that takes some time a batch and adds `error` to what torch says; `made_of` counts conversions."""

    def make(_network, _images):
        if made_of is not None:
            made_of.append(1)

        def run(images):
            time.sleep(seconds)
            return torch.full((len(images), 2), 1 + error)

        return run

    return Backend((), make)


def runner(word="auto", pays_after=0.0, torch_seconds=0.05, **backends):
    by_torch = fake(torch_seconds).make(None, None)
    return Runner(nn.Identity(), by_torch, word, backends, pays_after)


IMAGES = torch.zeros(8, 3, 2, 2)


def test_the_faster_of_two_is_taken_and_torch_where_it_is_the_fastest():
    found = runner(slow=fake(0.03), quick=fake(0.002))
    found(IMAGES)
    assert found.used == ["quick"] and found.refused == {}
    found = runner(torch_seconds=0.002, slow=fake(0.05), slower=fake(0.08))
    found(IMAGES)
    assert found.used == ["torch"]


def test_the_fastest_by_a_clock_and_the_first_among_equals():
    clock = itertools.count()
    ticks = {"torch": 12, "openvino": 10.5, "onnx": 10}

    def run_of(name):
        def run(images):
            nonlocal clock
            clock = itertools.count(next(clock) + ticks[name])
            return images

        return run

    runs = {name: run_of(name) for name in ticks}
    assert fastest(runs, IMAGES, lambda: next(clock)) == "openvino"
    ticks["torch"] = 10.4
    assert fastest(runs, IMAGES, lambda: next(clock)) == "torch"
    ticks["onnx"] = 5
    assert fastest(runs, IMAGES, lambda: next(clock)) == "onnx"


def test_nothing_is_converted_before_it_pays_nor_for_a_few_images():
    conversions = []
    found = runner(pays_after=0.03, torch_seconds=0.04, quick=fake(made_of=conversions))
    found(IMAGES)
    assert found.used == ["torch"] and conversions == []
    found(IMAGES[:7])
    assert conversions == [], "seven images are no trial"
    assert len(found(IMAGES)) == 8 and found.used == ["torch", "quick"]
    found(IMAGES[:1])
    assert conversions == [1], "one conversion a process"


def test_a_backend_that_deviates_is_discarded_with_the_reason():
    def broken(_network, _images):
        raise ValueError("an operator\nthat it lacks")

    found = runner(wrong=fake(error=2e-5), lame=Backend((), broken), close=fake(error=5e-6))
    found(IMAGES)
    assert found.used == ["close"]
    assert found.refused["wrong"].startswith("its rows are 2.0e-05 from torch's")
    assert found.refused["lame"] == "ValueError: an operator that it lacks"


def test_one_that_was_asked_for_is_taken_at_once_and_its_failure_is_an_error():
    found = runner("slow", pays_after=1e9, torch_seconds=0, slow=fake(0.02))
    found(IMAGES[:1])
    assert found.used == ["slow"]
    with pytest.raises(
        RunFailed, match=r"^backend wrong cannot be used \(its rows are 1.0e-01 .*EVALKIT_BACKEND=torch$"
    ):
        runner("wrong", wrong=fake(error=0.1))(IMAGES)


# what can be asked for -------------------------------------------------------------------------------------


def test_the_variable_is_read_before_anything_is_measured(made, monkeypatch):
    monkeypatch.setenv("EVALKIT_BACKEND", "openvnio")
    with pytest.raises(UnknownName, match=r"EVALKIT_BACKEND .* 'openvnio'; did you mean 'openvino'\?"):
        made().fetch()
    settings.resolve({}, folder=Path(__file__).parent)
    monkeypatch.setattr(_backends, "find_spec", lambda _name: None)
    for word, modules in NEEDED.items():
        monkeypatch.setenv("EVALKIT_BACKEND", word)
        line = rf"EVALKIT_BACKEND={word} needs {' and '.join(modules)}, not installed .* 'evalkit\[{word}\]'"
        with pytest.raises(BadSetting, match=line):
            made().fetch()
        with pytest.raises(BadSetting, match=line):
            Inception().to("cpu")
    monkeypatch.setenv("EVALKIT_BACKEND", "torch")
    made().fetch()
    assert candidates("auto", "cpu") == {}, "none is there"


def test_only_one_process_on_a_cpu_tries_backends_by_itself(monkeypatch):
    monkeypatch.setattr(_backends, "find_spec", lambda name: name)
    assert list(candidates("auto", "cpu")) == ["openvino", "onnx"]
    assert list(candidates("onnx", "cpu")) == ["onnx"]
    assert candidates("torch", "cpu") == candidates("auto", "cuda:1") == candidates("auto", "cpu", exact=False) == {}
    with pytest.raises(
        BadSetting, match="EVALKIT_BACKEND=onnx computes in float32 on the CPU, and this run is on cuda"
    ):
        candidates("onnx", "cuda")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert candidates("auto", "cpu") == {}
    assert list(candidates("onnx", "cpu")) == ["onnx"]


def test_doctor_says_which_are_there(monkeypatch):
    monkeypatch.setenv("EVALKIT_BACKEND", "onnx")
    lines = [line for _well, line in doctor._backends()]
    for word in BACKENDS:
        (line,) = (line for line in lines if line.startswith(f"backend {word}: "))
        there = BACKENDS[word].is_installed
        assert ("not installed" in line) != there and (f"evalkit[{word}]" in line) != there
    assert "EVALKIT_BACKEND=onnx" in lines


# bfloat16 --------------------------------------------------------------------------------------------------


def test_bf16_is_another_instrument_and_says_how_far_it_drifted(made):
    exact, rounded = made("64"), made("bf16:64")
    assert rounded.name == "inception:64:bf16" and exact.digest != rounded.digest
    assert registry.extractors.get("inception:bf16")().digest != registry.extractors.get("inception")().digest
    assert (exact.about["precision"], rounded.about["precision"]) == ("float32", "bfloat16 (autocast)")
    assert rounded.drift is None and rounded.backend is None
    batch = batch_of(exact)
    rows, expected = rounded(batch), exact(batch)
    assert rows.dtype == torch.float32
    assert 1e-4 < apart(rows, expected) < 0.05, "8 bits of 24"
    assert rounded.drift == apart(rows, expected)
    assert rounded.backend == f"torch, bfloat16, {rounded.drift:.1e} from float32"
    drift = rounded.drift
    rounded(batch[:1])
    assert rounded.drift == drift and exact.drift is None


def test_bf16_and_a_backend_of_float32_exclude_each_other(made, monkeypatch):
    monkeypatch.setattr(_backends, "find_spec", lambda name: name)
    monkeypatch.setenv("EVALKIT_BACKEND", "openvino")
    with pytest.raises(BadSetting, match="computes in bfloat16"):
        Inception("bf16").to("cpu")
