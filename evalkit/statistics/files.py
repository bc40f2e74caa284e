"""Statistics files as pytorch-fid, clean-fid, ADM, EDM2 and we write them: .npz without a pickle, checked when read."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..cache import beside
from ..errors import BadSource, UnwritableOutput, UsageError
from ..types import Moments
from .record import Origin, Statistics, complete
from .tree import LEAF, Node, Tree, merged, tree_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    Array: TypeAlias = "npt.NDArray[Any]"

Layout: TypeAlias = Literal["evalkit", "pytorch-fid", "clean-fid", "adm"]

SCHEMA = "evalkit.statistics/1"
# A covariance of so many columns takes 2 GB; more than any instrument has.
MOST_COLUMNS = 16_384
MOST_BYTES = 8 * 2**30
# How the keys of EDM2's nested files begin when they are kept flat, and the instrument each is of.
FAMILIES = {"fid": "inception", "fd_dinov2": "dinov2"}


def holds_statistics(path: Path) -> bool:
    """Whether a .npz holds mean and covariance, or rows, rather than samples; only its list of names is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
    return "evalkit" in names or "feats" in names or any(_keys(names, stem) for stem in ("", *FAMILIES))


def read_statistics(path: Path) -> Statistics:
    """The statistics in a .npz of pytorch-fid, clean-fid (its KID files too), ADM or EDM2, or in one of ours.

    Raises BadSource, in one line, for anything that is not finite, square, symmetric and positive semi-definite.
    """
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise BadSource(f"{path} is a pickle, which can run code when opened; store its mu and sigma with numpy.savez")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist() if _is_wanted(info.filename)) > MOST_BYTES:
                raise BadSource(f"{path}: its statistics unpack to more than {MOST_BYTES:,} bytes")
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            return _ours(path, archive) if "evalkit" in names else _theirs(path, archive, names)
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, RuntimeError) as error:
        raise BadSource(f"cannot read statistics of {str(path)!r}: {str(error).splitlines()[0]}") from error


def _theirs(path: Path, archive: zipfile.ZipFile, names: set[str]) -> Statistics:
    import torch

    found = {stem: _moments(path, archive, *keys) for stem in ("", *FAMILIES) if (keys := _keys(names, stem))}
    if "" in found:
        spatial = _moments(path, archive, "mu_s", "sigma_s") if {"mu_s", "sigma_s"} <= names else None
        single = _dtype(archive, "mu").itemsize < 8
        origin: Origin = "ADM" if spatial is not None else "clean-fid" if single else "pytorch-fid"
        return Statistics(origin, found[""], spatial)
    if found:
        families = {FAMILIES[stem]: moments for stem, moments in found.items()}
        return Statistics("EDM2", next(iter(families.values())), families=families)
    if "feats" in names:
        rows = torch.from_numpy(_array(path, archive, "feats", 2).astype("float32"))
        if len(rows) < 2:
            raise BadSource(f"{path}: feats holds {len(rows)} rows; at least 2 are needed")
        return Statistics("clean-fid", _moments_of(rows), rows=rows, positions=tuple(range(len(rows))))
    raise BadSource(f"{path}: arrays {', '.join(sorted(names)) or '(none)'}; expected mu and sigma")


def _keys(names: set[str], stem: str) -> tuple[str, str] | None:
    """What mean and covariance are called: mu and sigma; in EDM2's nested files kept flat fid/mu, fid.mu or fid_mu."""
    for joint in ("/", ".", "_") if stem else ("",):
        if {f"{stem}{joint}mu", f"{stem}{joint}sigma"} <= names:
            return f"{stem}{joint}mu", f"{stem}{joint}sigma"
    return None


def _is_wanted(name: str) -> bool:
    """ADM's reference batches hold the images too, which are not read here."""
    return not name.startswith("arr_")


def _moments(path: Path, archive: zipfile.ZipFile, mean_key: str, covariance_key: str) -> Moments:
    import torch

    mean = _array(path, archive, mean_key, 1)
    covariance = _array(path, archive, covariance_key, 2)
    if covariance.shape != (len(mean), len(mean)):
        raise BadSource(
            f"{path}: {covariance_key} has shape {covariance.shape}, {mean_key} {mean.shape}; they must fit"
        )
    # float32 or float64, each alike: mixed ones have crashed other tools.
    S = torch.from_numpy(covariance.astype("float64"))
    size = float(S.norm())
    if float((S - S.T).abs().max()) > 1e-5 * size:
        raise BadSource(f"{path}: {covariance_key} is not symmetric, so it is no covariance")
    S = (S + S.T) / 2
    # A covariance rounded to float32 may be negative by rounding; more than that is something else.
    _, failed = torch.linalg.cholesky_ex(S + (1e-6 * size + 1e-300) * torch.eye(len(S), dtype=S.dtype))
    if int(failed):
        raise BadSource(f"{path}: {covariance_key} is not positive semi-definite, so it is no covariance")
    return Moments(torch.from_numpy(mean.astype("float64")), S, None)


def _moments_of(rows: Tensor) -> Moments:
    return tree_of(rows, 0, len(rows), len(rows), "").moments()


def _ours(path: Path, archive: zipfile.ZipFile) -> Statistics:
    import torch

    card = json.loads(bytes(_array(path, archive, "evalkit", 1)))
    if card["schema"] != SCHEMA:
        raise BadSource(f"{path}: schema {card['schema']!r}, expected {SCHEMA!r}; update evalkit")
    means = torch.from_numpy(_array(path, archive, "node_means", 2))
    packed = torch.from_numpy(_array(path, archive, "node_scatters", 2))
    width = means.shape[1]
    if packed.shape != (len(means), width * (width + 1) // 2) or len(card["nodes"]) != len(means):
        raise BadSource(f"{path}: {len(means)} means, {tuple(packed.shape)} scatters; they must fit")
    below = torch.tril_indices(width, width)
    leaves = -(-int(card["total"]) // LEAF)
    nodes = []
    for (level, index, count), mean, values in zip(card["nodes"], means, packed, strict=True):
        scatter = torch.zeros(width, width, dtype=torch.float64)
        scatter[below[0], below[1]] = values
        if not (0 <= level <= leaves.bit_length() and index >= 0 and (index + 1) << level <= leaves and count >= 0):
            raise BadSource(f"{path}: node {level}, {index} is no part of {card['total']} samples")
        nodes.append(Node(level, index, count, mean, scatter))
    tree = merged([Tree(int(card["total"]), str(card["of"]), tuple(nodes))])
    rows, positions = None, ()
    if card["rows"]:
        rows = torch.from_numpy(_array(path, archive, "rows", 2).astype("float32"))
        positions = tuple(_array(path, archive, "positions", 1).tolist())
    facts = {str(k): str(v) for k, v in card["instrument"].items()}
    return Statistics("evalkit", complete(tree), None, {}, facts, tree, rows, positions)


def _array(path: Path, archive: zipfile.ZipFile, name: str, ndim: int) -> Array:
    """One array of the file: finite numbers, as large as its header says and no larger than makes sense."""
    import numpy as np

    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        shape, dtype = _header(file)
        if dtype.kind not in "fui" or len(shape) != ndim:
            raise BadSource(f"{path}: {name} is {dtype} {shape}; expected {ndim}-dimensional numbers")
        if name not in LONG and max(shape[-1:], default=0) > MOST_COLUMNS:
            raise BadSource(f"{path}: {name} has {shape[-1]:,} columns; at most {MOST_COLUMNS:,} are read")
        # numpy sets aside what the header declares before it reads a byte.
        if file.tell() + dtype.itemsize * int(np.prod(shape, dtype=object)) != info.file_size:
            raise BadSource(f"{path}: {name} declares {shape} {dtype}, which is not what the file holds")
    with archive.open(info) as file:
        found: Array = np.lib.format.read_array(file, allow_pickle=False)
    if not np.isfinite(found).all():
        raise BadSource(f"{path}: {name} holds NaN or infinity")
    return np.ascontiguousarray(found, dtype=found.dtype.newbyteorder("="))


# Arrays whose last axis is not the columns of a row.
LONG = ("evalkit", "node_scatters", "positions")


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    import numpy as np

    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _dtype(archive: zipfile.ZipFile, name: str) -> np.dtype[Any]:
    with archive.open(f"{name}.npy") as file:
        return _header(file)[1]


def write_statistics(path: Path, statistics: Statistics, layout: Layout = "evalkit") -> None:
    """Write a .npz that evalkit, pytorch-fid, clean-fid or ADM's evaluator reads.

    A complete file of ours holds mu and sigma too, so all but ADM's evaluator read it as it is. Raises UsageError when
    the statistics do not hold what the layout needs, UnwritableOutput.
    """
    import numpy as np

    if path.suffix.lower() != ".npz":
        raise UnwritableOutput(f"statistics are written as .npz; got {str(path)!r}")
    if layout == "evalkit":
        arrays = _our_arrays(statistics)
    else:
        pooled = statistics.moments()
        single = layout != "pytorch-fid"
        arrays = {"mu": pooled.mean.numpy().astype("f4" if single else "f8"), "sigma": pooled.covariance.numpy()}
        if layout == "adm":
            spatial = statistics.moments("inception:spatial")
            arrays |= {"mu_s": spatial.mean.numpy().astype("f4"), "sigma_s": spatial.covariance.numpy()}
    with beside(path) as draft:
        np.savez(draft, allow_pickle=False, **arrays)


def _our_arrays(statistics: Statistics) -> dict[str, Array]:
    import numpy as np
    import torch

    tree = statistics.tree
    if tree is None or not tree.nodes:
        raise UsageError(f"statistics in the layout of {statistics.origin} hold no sums to merge; write 'pytorch-fid'")
    card = {
        "schema": SCHEMA,
        "instrument": dict(statistics.instrument or {}),
        "total": tree.total,
        "of": tree.of,
        "nodes": [[node.level, node.index, node.count] for node in tree.nodes],
        "rows": statistics.rows is not None,
    }
    width = len(tree.nodes[0].mean)
    below = torch.tril_indices(width, width)
    arrays: dict[str, Array] = {
        "evalkit": np.frombuffer(json.dumps(card, sort_keys=True).encode(), dtype=np.uint8),
        "node_means": torch.stack([node.mean for node in tree.nodes]).numpy(),
        "node_scatters": torch.stack([node.scatter[below[0], below[1]] for node in tree.nodes]).numpy(),
    }
    if statistics.pooled is not None:
        arrays |= {"mu": statistics.pooled.mean.numpy(), "sigma": statistics.pooled.covariance.numpy()}
    if statistics.rows is not None:
        arrays |= {"rows": statistics.rows.numpy(), "positions": np.array(statistics.positions, dtype=np.int64)}
    return arrays
