"""The three files Inception's weights travel in: the same network from each, and one line for any other file."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evalkit.errors import RunFailed
from evalkit.extractors._inception_files import (
    MOST_BYTES,
    from_script,
    from_tensorflow,
    read_constants,
    tensorflow_names,
)
from evalkit.extractors._inception_net import network
from evalkit.extractors.inception import Inception

from .inceptions import (
    field,
    node,
    photographs,
    random_port,
    record_of,
    tensor_proto,
    varint,
    write_graph,
    write_script,
)
from .rows import rows

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:FutureWarning")

PHOTOGRAPHS = photographs(2, 299, 299)


@pytest.fixture(scope="module")
def expected():
    """Rows of the random weights without any file."""
    instrument = Inception()
    with torch.no_grad():
        return network(random_port(), "pool3")(instrument.arrange([instrument.prepare(p) for p in PHOTOGRAPHS]))


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return write_graph(tmp_path_factory.mktemp("graph") / "classify_image_graph_def.pb", random_port())


# by hand ---------------------------------------------------------------------------------------------------


def test_names_of_the_graph_as_the_graph_has_them():
    names = tensorflow_names()
    assert len(names) == len(set(names.values())) == 94
    assert names["Conv2d_1a_3x3"] == "conv" and names["Conv2d_4a_3x3"] == "conv_4"
    assert names["Mixed_5b.branch_pool"] == "mixed/tower_2/conv"
    assert names["Mixed_6a.branch3x3dbl_3"] == "mixed_3/tower/conv_2"
    assert names["Mixed_6d.branch1x1"] == "mixed_6/conv"
    assert names["Mixed_6e.branch7x7dbl_5"] == "mixed_7/tower_1/conv_4"
    assert names["Mixed_7a.branch7x7x3_4"] == "mixed_8/tower_1/conv_3"
    assert names["Mixed_7c.branch3x3dbl_3b"] == "mixed_10/tower_1/mixed/conv_1"


def test_a_constant_of_known_bytes(tmp_path):
    path = tmp_path / "graph.pb"
    # GraphDef { node { name: "a" op: "Const" attr { "value": tensor { FLOAT, shape [2], content 1.0 -2.0 } } } }
    tensor = bytes.fromhex("0801 1204 1202 0802 2208 0000803f 000000c0")
    value = b"\x0a\x05value" + b"\x12" + bytes([len(tensor) + 2]) + b"\x42" + bytes([len(tensor)]) + tensor
    body = b"\x0a\x01a" + b"\x12\x05Const" + b"\x2a" + bytes([len(value)]) + value
    path.write_bytes(b"\x0a" + bytes([len(body)]) + body)
    found = read_constants(path)
    assert list(found) == ["a"] and found["a"].tolist() == [1.0, -2.0]


def test_one_listed_value_fills_its_shape_and_several_are_themselves(tmp_path):
    path = tmp_path / "graph.pb"
    path.write_bytes(
        node("fill", "Const", tensor_proto([2, 2], listed=[0.5]))
        + node("list", "Const", tensor_proto([2], listed=[1, 2]))
    )
    found = read_constants(path)
    assert found["fill"].tolist() == [[0.5, 0.5], [0.5, 0.5]] and found["list"].tolist() == [1, 2]


# the same network ------------------------------------------------------------------------------------------


def test_the_frozen_graph_gives_the_ports_tensors_and_rows(graph, expected):
    found = from_tensorflow(read_constants(graph))
    assert found.keys() == random_port().keys()
    assert all(torch.equal(found[name], value) for name, value in random_port().items())
    assert torch.equal(rows(Inception("adm", weights=record_of(graph), path=graph), PHOTOGRAPHS, 2), expected)


def test_nvidias_script_gives_the_same_rows(tmp_path, expected):
    path = write_script(tmp_path / "inception-2015-12-05.pt")
    state = torch.jit.load(str(path)).state_dict()
    assert {"layers.mixed_6.tower.conv_1.weight", "layers.mixed_9.tower_mixed_conv_1.beta"} < state.keys()
    instrument = Inception("nvidia", weights=record_of(path), path=path)
    assert torch.equal(rows(instrument, PHOTOGRAPHS, 2), expected)


# another file ----------------------------------------------------------------------------------------------


def test_a_script_that_pools_otherwise_is_refused_with_how_far_it_is(tmp_path):
    path = write_script(tmp_path / "other.pt", last_pool=nn.AvgPool2d(3, 1, 1, count_include_pad=False))
    with pytest.raises(RunFailed, match=r"differ from the 2015-12-05 graph by .* of the largest") as caught:
        Inception("nvidia:768", weights=record_of(path), path=path).to("cpu")
    assert "\n" not in str(caught.value)


def test_a_script_of_another_structure_is_refused_by_the_tensor_it_lacks(tmp_path):
    path = tmp_path / "other.pt"
    torch.jit.script(nn.Sequential(nn.Conv2d(3, 8, 3))).save(str(path))
    with pytest.raises(RunFailed, match=r"Conv2d_1a_3x3.conv.weight is missing"):
        Inception("nvidia", weights=record_of(path), path=path).to("cpu")
    assert from_script({"layers.conv.weight": torch.ones(1)}).keys() == {"Conv2d_1a_3x3.conv.weight"}


@pytest.mark.parametrize("layout", ["torch", "nvidia", "adm"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x0a\xff\xff\xff\xff\x0f", b"PK\x03\x04" + bytes(99)])
def test_a_file_that_is_none_of_them_is_one_line(layout, content, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(RunFailed) as caught:
        Inception(layout, weights=record_of(path), path=path).to("cpu")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_digest_is_checked_before_a_script_is_opened(tmp_path, monkeypatch):
    path = tmp_path / "changed.pt"
    path.write_bytes(b"anything")
    record = record_of(path)
    path.write_bytes(b"something else")
    monkeypatch.setattr(torch.jit, "load", lambda *_given, **_named: pytest.fail("opened"))
    with pytest.raises(RunFailed, match="expected sha256"):
        Inception("nvidia", weights=record, path=path).to("cpu")


def test_a_graph_that_lacks_a_tensor_says_which(tmp_path):
    path = write_graph(tmp_path / "graph.pb", random_port(), leave_out=("mixed_6/tower/conv_1/batchnorm/beta",))
    with pytest.raises(RunFailed, match=r"Mixed_6d.branch7x7_2.bn.bias is missing"):
        Inception("adm", weights=record_of(path), path=path).to("cpu")


HOSTILE = {
    "a length past the end": b"\x0a\x7fabc",
    "a number without an end": b"\x0a" + b"\xff" * 12,
    "an unknown wire type": b"\x0b",
    "a number for a node": varint(1 << 3) + varint(5),
    "a number for a tensor": field(1, field(2, b"Const") + field(5, field(1, b"value") + field(2, field(8, 3)))),
    "more values than the graph has": node("a", "Const", tensor_proto([1 << 20, 1 << 20], listed=[1.0])),
    "a negative axis": node("a", "Const", tensor_proto([(1 << 64) - 1], b"1234")),
    "too many axes": node("a", "Const", tensor_proto([1] * 40, b"1234")),
    "too few bytes": node("a", "Const", tensor_proto([3], b"12345678")),
    "too many constants": b"".join(node(str(i), "Const", tensor_proto([1], b"1234")) for i in range(5000)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_graph_is_one_line(what, tmp_path):
    path = tmp_path / "graph.pb"
    path.write_bytes(HOSTILE[what])
    with pytest.raises(RunFailed, match="cannot be read as a frozen TensorFlow graph") as caught:
        read_constants(path)
    assert "\n" not in str(caught.value)


def test_a_graph_too_large_is_not_read(tmp_path):
    path = tmp_path / "graph.pb"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(RunFailed, match="expected about 95 MB"):
        read_constants(path)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_anywhere_gives_constants_or_that_one_error(data, tmp_path_factory):
    whole = bytearray(
        node("a", "Const", tensor_proto([2, 3], bytes(24))) + node("b", "Const", tensor_proto([2], listed=[1.0, 2.0]))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pb"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found = read_constants(path)
    except RunFailed as error:
        assert "\n" not in str(error)
    else:
        assert all(value.dtype == torch.float32 and value.numel() <= 6 for value in found.values())
