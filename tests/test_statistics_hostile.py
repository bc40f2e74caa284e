"""Statistics files that are wrong, or not what they say: refused in one line, before they take memory or run code."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from evalkit.errors import BadSource, UnwritableOutput, UsageError
from evalkit.statistics import read_statistics, write_statistics
from evalkit.types import Moments

from .test_statistics import rows_of, saved, whole

EYE = np.eye(3)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, "must fit"),
        ({"mu": np.zeros((3, 1)), "sigma": EYE}, "1-dimensional"),
        ({"mu": np.zeros(3), "sigma": EYE * np.nan}, "NaN or infinity"),
        ({"mu": np.zeros(3), "sigma": EYE + np.triu(EYE[::-1])}, "not symmetric"),
        ({"mu": np.zeros(3), "sigma": EYE - 2}, "not positive semi-definite"),
        ({"mu": np.array(["a", "b"]), "sigma": np.eye(2)}, "numbers"),
        ({"mu": np.zeros(20_000, "f2"), "sigma": EYE}, "20,000 columns"),
        ({"feats": np.zeros((1, 3))}, "1 rows"),
        ({"evalkit": np.frombuffer(b"{", np.uint8)}, "cannot read"),
        ({"evalkit": np.frombuffer(b'{"schema": "evalkit.statistics/9"}', np.uint8)}, "update evalkit"),
        ({"mean": np.zeros(3)}, "expected mu and sigma"),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path, arrays, says):
    with pytest.raises(BadSource, match=says) as caught:
        read_statistics(saved(tmp_path / "s.npz", **arrays))
    assert "\n" not in str(caught.value) and "s.npz" in str(caught.value)


def header(shape: str) -> bytes:
    words = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + len(words).to_bytes(2, "little") + words.encode()


@pytest.mark.parametrize("shape", ["(16000, 16000)", "(3, 4)"])
def test_a_header_that_promises_more_than_there_is(tmp_path, shape):
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        archive.writestr("mu.npy", header("(3,)") + np.zeros(3).tobytes())
        archive.writestr("sigma.npy", header(shape) + EYE.tobytes())
    with pytest.raises(BadSource, match="not what the file holds"):
        read_statistics(tmp_path / "s.npz")


@pytest.mark.parametrize("node", [[40, 0, 1], [0, 7, 256], [0, -1, 256]])
def test_nodes_outside_the_set_are_refused(tmp_path, node):
    write_statistics(tmp_path / "s.npz", whole(rows_of(200)))
    with np.load(tmp_path / "s.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    card = {**json.loads(bytes(arrays["evalkit"])), "nodes": [node]}
    arrays["evalkit"] = np.frombuffer(json.dumps(card).encode(), np.uint8)
    with pytest.raises(BadSource, match="no part of 200 samples"):
        read_statistics(saved(tmp_path / "t.npz", **arrays))


def test_pickles_and_bombs_are_not_opened(tmp_path, monkeypatch):
    objects = np.empty(3, object)
    with pytest.raises(BadSource, match="object"):
        read_statistics(saved(tmp_path / "o.npz", mu=objects, sigma=EYE))
    with pytest.raises(BadSource, match="pickle"):
        read_statistics(tmp_path / "edm2.pkl")
    monkeypatch.setattr("evalkit.statistics.files.MOST_BYTES", 300)
    with pytest.raises(BadSource, match="unpack to more than"):
        read_statistics(saved(tmp_path / "b.npz", mu=np.zeros(3), sigma=EYE, arr_0=np.zeros(1000)))
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("text.npz", "absent.npz"):
        with pytest.raises(BadSource, match="cannot read statistics"):
            read_statistics(tmp_path / name)


def test_statistics_are_written_as_npz_and_only_of_what_there_is(tmp_path):
    with pytest.raises(UnwritableOutput, match="npz"):
        write_statistics(tmp_path / "s.json", whole(rows_of()))
    write_statistics(tmp_path / "s.npz", whole(rows_of()), "pytorch-fid")
    with pytest.raises(UsageError, match="no sums to merge"):
        write_statistics(tmp_path / "t.npz", read_statistics(tmp_path / "s.npz"))
    assert isinstance(read_statistics(tmp_path / "s.npz").moments(), Moments)
