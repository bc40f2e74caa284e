"""Weights by their sha256: found where they already lie or fetched once, opened only when they are the recorded file.

Order of places: an explicit path; EVALKIT_WEIGHTS (files or folders); the evalkit cache; the hub caches of torch,
CLIP, open_clip and Hugging Face; a download over https into the evalkit cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .assets import HUB, PACKAGE, SHIPPED, Weights
from .assets_detectors import DETECTORS
from .cache import Cache, FileDigests, beside, default_root
from .downloads import Unreachable, download, is_offline
from .errors import RunFailed, UnwritableOutput

if TYPE_CHECKING:
    from torch import Tensor

    from .types import Progress

__all__ = [
    "DETECTORS",
    "HUB",
    "PACKAGE",
    "SHIPPED",
    "Weights",
    "digest_of_file",
    "find",
    "keep",
    "load_weights",
    "obtain",
    "verify",
    "weights_folder",
]


def obtain(record: Weights, explicit: Path | None = None, *, progress: Progress | None = None) -> Path:
    """The file of `record` on this machine, its digest verified; downloaded into the evalkit cache if need be.

    explicit: a file to use, or a folder that holds it. Raises RunFailed, one line, when an explicit file (or one that
    EVALKIT_WEIGHTS names) is another file than the recorded one, and when the file is nowhere and cannot be fetched.
    """
    found = find(record, explicit)
    if found is not None:
        return found
    if not record.sha256:
        raise RunFailed(
            f"weights {record.name} are not fetched, since no digest of them is published: get them from {record.card}"
            f" and name the file in EVALKIT_WEIGHTS"
        )
    if is_offline(os.environ):
        raise RunFailed(_absent(record, "the network is switched off by EVALKIT_OFFLINE or HF_HUB_OFFLINE"))
    target = _private(weights_folder()) / record.name
    try:
        return download(record.url, target, record.sha256, size=record.size, progress=progress)
    except Unreachable as error:
        raise RunFailed(_absent(record, str(error))) from error


def find(record: Weights, explicit: Path | None = None) -> Path | None:
    """The verified file of `record` where it already lies on this machine, else None; raises as `obtain` does."""
    if explicit is not None:
        place = explicit / record.name if explicit.is_dir() else explicit
        return _checked(record, place, "hand in the recorded file, or none to have it looked for")
    if not record.url:
        return _checked(record, record.path, "reinstall the package")
    for path in _named_by_the_user(record):
        return _checked(record, path, "correct EVALKIT_WEIGHTS")
    if not record.sha256:
        # A file that merely has the name is taken only where the user says that this is it.
        return None
    return next((path for path in _places(record) if _is(record, path)), None)


def verify(record: Weights) -> Path | None:
    """Where `record` lies, its bytes read again whatever is remembered of them; None when it is nowhere.

    Raises RunFailed when the file that EVALKIT_WEIGHTS names, the package or the evalkit cache holds is another one.
    """
    kept = weights_folder() / record.name
    ours = [record.path] if not record.url else [*_named_by_the_user(record), *([kept] if kept.is_file() else [])]
    for path in ours:
        return _checked(record, path, "remove it and fetch it again", digest=_fresh_digest)
    if not record.sha256:
        return None
    return next((path for path in _places(record) if _is(record, path, digest=_fresh_digest)), None)


def keep(record: Weights, source: Path) -> Path:
    """Copy a file into the evalkit cache once its digest is verified; RunFailed when it is another file.

    A file without a published digest is not kept: found by its name alone, it could be anything.
    """
    if not record.sha256:
        raise RunFailed(f"weights {record.name}: no digest of them is published; name the file in EVALKIT_WEIGHTS")
    checked = _checked(record, source, "fetch the recorded one from " + record.url)
    with beside(_private(weights_folder()) / record.name) as draft:
        shutil.copyfile(checked, draft)
    return weights_folder() / record.name


def digest_of_file(path: Path) -> str:
    """Hex sha256 of a file; remembered by (path, size, modification time), so that a gigabyte is read once."""
    try:
        return FileDigests(_private(weights_folder())).of([path])[0]
    except (OSError, UnwritableOutput):
        # Either the file or the memory cannot be used; without the memory the file is read again.
        return _fresh_digest(path)


def weights_folder() -> Path:
    """Where fetched weights are kept: `weights` in the evalkit cache."""
    return default_root() / "weights"


# Places ---------------------------------------------------------------------------------------------------


def _private(folder: Path) -> Path:
    """The folder, made for its owner alone."""
    Cache(folder.parent)
    Cache(folder)
    return folder


def _named_by_the_user(record: Weights) -> Iterator[Path]:
    """Files that EVALKIT_WEIGHTS names for this record: listed by themselves, or lying in a listed folder."""
    for entry in filter(None, os.environ.get("EVALKIT_WEIGHTS", "").split(os.pathsep)):
        place = Path(entry).expanduser()
        if place.is_dir():
            yield from (place / name for name in record.names if (place / name).is_file())
        elif place.name in record.names:
            yield place


def _places(record: Weights) -> Iterator[Path]:
    """Where the file may lie without the user having said so, in order."""
    yield weights_folder() / record.name
    home = Path.home() / ".cache"
    shared = Path(os.environ.get("XDG_CACHE_HOME") or home)
    torch_home = Path(os.environ.get("TORCH_HOME") or shared / "torch")
    for folder in (torch_home / "hub" / "checkpoints", home / "clip", home / "open_clip"):
        yield from (folder / name for name in record.names)
    hf_home = Path(os.environ.get("HF_HOME") or shared / "huggingface")
    # The hub keeps a large file under its sha256, whatever its names are.
    hub = Path(os.environ.get("HF_HUB_CACHE") or hf_home / "hub")
    yield from sorted(hub.glob(f"models--*/blobs/{record.sha256}*"))


# Verification ---------------------------------------------------------------------------------------------


def _fresh_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is(record: Weights, path: Path, digest: Callable[[Path], str] = digest_of_file) -> bool:
    try:
        return path.is_file() and _size_fits(record, path) and digest(path).startswith(record.sha256)
    except OSError:
        return False


def _checked(record: Weights, path: Path, advice: str, digest: Callable[[Path], str] | None = None) -> Path:
    """The path, when it holds the recorded file."""
    # What travels with the package is small: it is read each time, and nothing is remembered of it.
    digest = digest or (digest_of_file if record.url else _fresh_digest)
    try:
        found, size = digest(path), path.stat().st_size
    except OSError as error:
        raise RunFailed(f"weights {path} cannot be read ({error.strerror or error}); {advice}") from error
    if not found.startswith(record.sha256) or not _size_fits(record, path):
        raise RunFailed(
            f"weights {path} are not the ones recorded: expected {record.pinned}, found sha256 {found}, {size} bytes;"
            f" {advice}"
        )
    return path


def _size_fits(record: Weights, path: Path) -> bool:
    return record.size in (0, path.stat().st_size)


def _absent(record: Weights, why: str) -> str:
    other = "; fid@random_conv needs no weights" if "inception" in record.file else ""
    damaged = " (the one in the cache is another file)" if (weights_folder() / record.name).exists() else ""
    return (
        f"weights {record.name} ({record.pinned}) are not on this machine{damaged}: {why}; fetch {record.url} and"
        f" put it into {weights_folder()}, or name its place in EVALKIT_WEIGHTS{other}"
    )


# Opening --------------------------------------------------------------------------------------------------


def load_weights(record: Weights, explicit: Path | None = None) -> dict[str, Tensor]:
    """The tensors of a weight file by name, on the CPU, in the dtype they are stored in.

    Reads safetensors, torch files (tensors only: code in a pickle is refused, never run), TorchScript archives, of
    which it takes the parameters, and Keras' .h5, whose tensors are called "layer/part". Raises RunFailed as `obtain`
    does, and when the verified file cannot be read.
    """
    path = obtain(record, explicit)
    try:
        return _tensors(path)
    except RunFailed:
        raise
    except Exception as error:  # Each reader has errors of its own for a damaged file.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RunFailed(f"weights {path} cannot be read as tensors ({reason[:200]})") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    if path.suffix == ".h5":
        return _keras_tensors(path)
    import torch

    if _is_torchscript(path):
        # A program, but one whose digest was checked; loading it runs none of it.
        jit: Any = torch.jit
        with warnings.catch_warnings():
            # torch discourages new archives; the published ones stay as they are.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return dict(jit.load(str(path), map_location="cpu").state_dict())
    found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    # Checkpoints of a training run keep the network under one of these names.
    for name in ("model", "state_dict"):
        found = found[name] if isinstance(found, dict) and isinstance(found.get(name), dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ValueError("it holds something else than tensors by name")
    return found


def _keras_tensors(path: Path) -> dict[str, Tensor]:
    """Weights of a Keras model as "layer/part" in Keras' order of axes; of the whole model's file, not its optimiser's.

    A name that two weights share is refused, a link out of the file not followed.
    """
    try:
        import h5py
    except ImportError as error:
        raise RunFailed(f"weights {path.name} are a Keras file, which h5py reads; `pip install h5py`") from error
    import torch

    found: dict[str, Tensor] = {}

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            key = "/".join(name.split(":")[0].split("/")[-2:])
            if key in found:
                raise ValueError(f"it holds {key} twice")
            found[key] = torch.from_numpy(item[()])

    with h5py.File(path, "r") as file:
        # `visititems` follows neither soft nor external links.
        file.get("model_weights", file).visititems(take)
    if not found:
        raise ValueError("it holds no weights")
    return found


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
