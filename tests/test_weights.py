"""Weight files: what is recorded of them, where they are looked for, and that no other file is ever opened as one."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import stat
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evalkit.errors import RunFailed
from evalkit.weights import HUB, Weights, digest_of_file, find, load_weights, obtain, verify, weights_folder

CONTENT = b"weights of a network"


def recorded(path: Path, **changed) -> Weights:
    """A record of the file at `path`, as if it were published."""
    record = Weights(
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        licence="Apache-2.0",
        trained_on="nothing",
        url=f"https://weights.invalid/{path.name}",
        size=path.stat().st_size,
    )
    return replace(record, **changed)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of its own, with empty caches and the network switched off."""
    for name in ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "EVALKIT_WEIGHTS", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "evalkit"))
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def original(home):
    path = home / "original" / "network.pth"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


def put(original: Path, place: Path, content: bytes | None = None) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        shutil.copyfile(original, place)
    else:
        place.write_bytes(content)
    return place


# ---------------------------------------------------------------------------------------------- records


def test_the_digest_of_three_letters_is_the_one_of_the_standard(home):
    (home / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert digest_of_file(home / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_is_remembered_of_files_is_private_and_can_be_done_without(home, original, monkeypatch):
    before = os.umask(0o022)
    try:
        expected = digest_of_file(original)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(f.stat().st_mode) for f in (weights_folder(), weights_folder().parent)] == [0o700, 0o700]
    monkeypatch.setenv("EVALKIT_CACHE", str(original / "no folder"))
    assert digest_of_file(original) == expected == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("name", HUB)
def test_a_published_file_is_pinned_whole_and_agrees_with_what_its_name_says(name):
    record = HUB[name]
    assert re.fullmatch(r"[0-9a-f]{64}", record.sha256) and record.url.startswith("https://")
    assert record.url.endswith(record.name) and record.licence and record.trained_on and record.preprocessing
    # torch hub writes the first eight digits into the file's name, OpenAI all of them into the address.
    said = re.search(r"-([0-9a-f]{8})\.pth$", record.name) or re.search(r"/([0-9a-f]{64})/", record.url)
    assert said is None or record.sha256.startswith(said[1])


@pytest.mark.parametrize(
    ("package", "file", "names"),
    [
        ("cleanfid", "downloads_helper.py", ["inception_nvidia"]),
        ("open_clip", "pretrained.py", ["clip_vit_b_32", "clip_vit_l_14", "clip_vit_l_14_336"]),
        ("pytorch_fid", "inception.py", ["inception"]),
        ("timm", "models/vision_transformer.py", ["dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14"]),
        ("torchvision", "models/alexnet.py", ["alexnet"]),
        ("torchvision", "models/convnext.py", ["convnext_tiny"]),
        ("torchvision", "models/squeezenet.py", ["squeezenet1_1"]),
        ("torchvision", "models/vgg.py", ["vgg16"]),
    ],
)
def test_the_addresses_are_the_ones_other_libraries_use(package, file, names):
    # Read, not imported: importing all of them takes ten seconds.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    source = (Path(spec.origin).parent / file).read_text("utf-8")
    # Addresses are written over several lines in places.
    joined = re.sub(r"[\"']\s*[\"']", "", source)
    for name in names:
        assert HUB[name].url in joined, name


# ---------------------------------------------------------------------------------------------- places


def test_places_are_searched_in_the_stated_order(home, original, monkeypatch):
    record = recorded(original, aliases=("other-name.pth",))
    explicit = put(original, home / "mine.bin")
    listed = put(original, home / "listed" / "network.pth")
    monkeypatch.setenv("EVALKIT_WEIGHTS", os.pathsep.join([str(home / "nowhere"), str(home / "listed")]))
    places = [
        listed,
        put(original, home / "evalkit" / "weights" / "network.pth"),
        put(original, home / ".cache" / "torch" / "hub" / "checkpoints" / "network.pth"),
        put(original, home / ".cache" / "torch" / "hub" / "checkpoints" / "other-name.pth"),
        put(original, home / ".cache" / "clip" / "network.pth"),
        put(original, home / ".cache" / "open_clip" / "network.pth"),
        put(original, home / ".cache" / "huggingface" / "hub" / "models--a--b" / "blobs" / record.sha256),
    ]
    assert obtain(record, explicit) == explicit
    for place in places:
        assert obtain(record) == place
        place.unlink()
    assert find(record) is None


@pytest.mark.parametrize(
    ("variable", "value", "place"),
    [
        ("TORCH_HOME", "t", "t/hub/checkpoints/network.pth"),
        ("XDG_CACHE_HOME", "x", "x/torch/hub/checkpoints/network.pth"),
        ("HF_HOME", "h", "h/hub/models--a--b/blobs/{sha256}"),
        ("HF_HUB_CACHE", "c", "c/models--a--b/blobs/{sha256}"),
        ("EVALKIT_WEIGHTS", "w/network.pth", "w/network.pth"),
    ],
)
def test_caches_are_where_the_environment_says(home, original, monkeypatch, variable, value, place):
    record = recorded(original)
    expected = put(original, home / place.format(sha256=record.sha256))
    assert find(record) is None
    monkeypatch.setenv(variable, str(home / value))
    assert find(record) == expected


def test_the_shared_temporary_folder_is_not_trusted(home, original, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(home / "tmp"))
    put(original, home / "tmp" / "network.pth")
    assert find(recorded(original)) is None


def test_another_file_in_a_hub_cache_is_passed_over(home, original):
    put(original, home / ".cache" / "torch" / "hub" / "checkpoints" / "network.pth", CONTENT[::-1])
    right = put(original, home / ".cache" / "clip" / "network.pth")
    assert find(recorded(original)) == right


@pytest.mark.parametrize("content", [CONTENT[::-1], CONTENT[:-1], b""])
def test_another_file_handed_in_is_refused_and_both_digests_are_named(home, original, monkeypatch, content):
    record, wrong = recorded(original), put(original, home / "wrong" / "network.pth", content)
    put(original, weights_folder() / "network.pth")  # A right one elsewhere does not excuse it.
    for explicit in (wrong, wrong.parent):
        with pytest.raises(RunFailed) as refusal:
            obtain(record, explicit)
        assert all(x in str(refusal.value) for x in (str(wrong), record.sha256, hashlib.sha256(content).hexdigest()))
    monkeypatch.setenv("EVALKIT_WEIGHTS", str(wrong))
    with pytest.raises(RunFailed, match="EVALKIT_WEIGHTS"):
        obtain(record)


def test_an_explicit_file_that_is_not_there_is_refused(home, original):
    with pytest.raises(RunFailed, match=r"absent\.pth cannot be read \(No such file"):
        obtain(recorded(original), home / "absent.pth")


def test_a_published_prefix_is_enough_only_with_the_recorded_size(home, original):
    digest = hashlib.sha256(CONTENT).hexdigest()
    record = recorded(original, sha256=digest[:8])
    assert obtain(record, original) == original and "only this prefix" in record.pinned
    assert find(replace(record, sha256=digest[:7] + ("0" if digest[7] != "0" else "1"))) is None
    with pytest.raises(RunFailed, match="20 bytes"):
        obtain(replace(record, size=21), original)


@pytest.mark.parametrize("variable", ["EVALKIT_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_and_absent_is_one_line_with_everything_to_do(home, original, monkeypatch, variable):
    monkeypatch.delenv("EVALKIT_OFFLINE")
    monkeypatch.setenv(variable, "1")
    record = HUB["inception"]
    with pytest.raises(RunFailed) as refusal:
        obtain(record)
    line = str(refusal.value)
    assert "\n" not in line
    assert all(
        x in line for x in (record.file, record.sha256, record.url, str(weights_folder()), variable, "fid@random_conv")
    )
    assert not (home / "evalkit" / "weights" / record.file).exists()


def test_what_is_remembered_of_a_file_is_renewed_with_it_and_verify_reads_it_again(home, original):
    record = recorded(original)
    kept = put(original, weights_folder() / "network.pth")
    assert find(record) == verify(record) == kept
    before = kept.stat()
    kept.write_bytes(CONTENT[::-1])
    os.utime(kept, ns=(before.st_atime_ns, before.st_mtime_ns))
    # A disk that lies about its times is believed by the memory, and found out by `verify`.
    assert find(record) == kept
    with pytest.raises(RunFailed, match="not the ones recorded"):
        verify(record)
    os.utime(kept, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert find(record) is None


def test_verify_finds_nothing_where_nothing_is(home, original):
    assert verify(recorded(original)) is None


# ---------------------------------------------------------------------------------------------- opening


def same(loaded: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor]) -> bool:
    return loaded.keys() == tensors.keys() and all(
        torch.equal(loaded[k], v) and loaded[k].dtype == v.dtype for k, v in tensors.items()
    )


TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [None, "model", "state_dict"])
def test_a_torch_file_gives_its_tensors(home, zipped, wrapped):
    path = home / "net.pth"
    torch.save({wrapped: TENSORS} if wrapped else TENSORS, path, _use_new_zipfile_serialization=zipped)
    assert same(load_weights(recorded(path), path), TENSORS)


def test_a_safetensors_file_gives_its_tensors(home):
    save_file(TENSORS, home / "net.safetensors")
    assert same(load_weights(recorded(home / "net.safetensors"), home), TENSORS)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning", "ignore:.*torch.jit.script:DeprecationWarning")
def test_a_torchscript_archive_gives_its_parameters(home):
    net, path = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).eval(), home / "net.pt"
    torch.jit.script(net).save(path)
    warnings.simplefilter("error")
    assert same(load_weights(recorded(path), path), dict(net.state_dict()))


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_never_run(home, zipped):
    path, marker = home / "net.pth", home / "it ran"
    torch.save({"a": torch.ones(1), "b": Bomb(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(RunFailed, match="cannot be read as tensors"):
        load_weights(recorded(path), path)
    assert not marker.exists()
    # The file does hold the bomb, and the bomb does go off: the test above could fail.
    assert str(marker).encode() in path.read_bytes()
    call, arguments = Bomb(marker).__reduce__()
    call(*arguments)
    assert marker.exists()


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors", "net.pt"])
@pytest.mark.parametrize("cut", [0, 7, -1])
def test_a_truncated_file_is_one_line_even_when_its_digest_is_recorded(home, name, cut):
    path = home / name
    (save_file if name.endswith("safetensors") else torch.save)(TENSORS, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RunFailed, match="cannot be read as tensors") as refusal:
        load_weights(recorded(path), path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("thing", [torch.ones(2), {"a": 1}, {"model": {"a": "b"}}])
def test_a_file_without_named_tensors_is_refused(home, thing):
    torch.save(thing, home / "net.pth")
    with pytest.raises(RunFailed, match="something else than tensors by name"):
        load_weights(recorded(home / "net.pth"), home)
