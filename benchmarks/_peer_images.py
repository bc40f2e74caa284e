"""Claims about images: what the network sees, what it answers, and the FID of two folders, per dialect and peer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from evalkit.extractors._resize import DIALECTS, resize
from evalkit.extractors.inception import Inception
from evalkit.metrics.frechet import frechet_distance
from evalkit.weights import HUB, Weights

from ._peer_claims import Claim, apart, named
from ._peer_networks import Job, fidelity_network, has_old_sqrtm, module, pytorch_fid_network, version_of

SIZES = ((8, 8), (32, 32), (64, 64), (256, 256), (299, 299), (512, 512), (1024, 1024), (31, 77), (600, 299), (256, 512))
LAYERS = ("64", "192", "768", "2048", "logits_unbiased", "logits")
GREY = 0.01


@dataclass(frozen=True)
class Ground:
    """What the comparison stands on: the torch port's weights (random ones unless given), and where files may be kept.

    script: the same network as the TorchScript that clean-fid loads; made of the random weights unless given.
    """

    folder: Path
    port: Path | None = None
    script: Path | None = None

    @cached_property
    def weights(self) -> tuple[Weights, Path]:
        """The record and the file of the torch port."""
        if self.port is not None:
            return HUB["inception"], self.port
        made, path = module("tests.inceptions"), self.folder / "port.pth"
        torch.save(made.random_port(), path)
        return made.record_of(path), path

    @cached_property
    def script_weights(self) -> tuple[Weights, Path]:
        """The record and the file of the TorchScript, under the name that clean-fid looks for."""
        if self.script is not None:
            return HUB["inception_nvidia"], self.script
        made = module("tests.inceptions")
        path = made.write_script(self.folder / "inception-2015-12-05.pt")
        return made.record_of(path), path

    @property
    def job(self) -> Job:
        return Job(self.folder, self.folder, self.weights[1])

    def ours(self, variant: str) -> Inception:
        record, path = self.script_weights if "nvidia" in variant else self.weights
        return Inception(variant, weights=record, path=path)


def photographs() -> list[Any]:
    """Real photographs where the optional data is on this machine, uint8 [H, W, 3]: faces and small objects."""
    data, pytest = module("tests.data"), module("pytest")
    try:
        folders = [data.shared("data", "image", *parts) for parts in (("faces", "real"), ("cifar10_subset",))]
    except pytest.skip.Exception:
        return []
    files = [f for folder in folders for f in sorted(folder.rglob("*.jpg"))[:2]]
    return [np.asarray(Image.open(f).convert("RGB")) for f in files]


def synthetic(n: int, height: int, width: int, seed: int = 0) -> list[Any]:
    """Images whose power falls with the square of the frequency, uint8 [H, W, 3]."""
    made: list[Any] = module("tests.inceptions").photographs(n, height, width, seed)
    return made


def batch_of(pictures: list[Any]) -> Tensor:
    """uint8 [B, 3, H, W] of images of one size."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


# What the network sees ------------------------------------------------------------------------------------


def seen_by(network: Any, first: Any, zero: float, batch: Tensor) -> Tensor:
    """Grey levels that reach the first convolution of a peer's network."""
    caught: list[Tensor] = []
    hook = first.register_forward_pre_hook(lambda _module, given: caught.append(given[0]))
    with torch.no_grad():
        network(batch)
    hook.remove()
    return caught[0] * zero + zero


def resizers(ground: Ground) -> Iterator[tuple[str, str, Callable[[Tensor], Tensor]]]:
    """Each dialect with its peer and what that peer makes of a batch, in grey levels."""
    build = module("cleanfid.resize").build_resizer

    def by_clean_fid(batch: Tensor) -> Tensor:
        sized = [build("clean")(image.permute(1, 2, 0).numpy()) for image in batch]
        return torch.from_numpy(np.stack(sized)).permute(0, 3, 1, 2)

    yield "clean", named("clean-fid"), by_clean_fid
    if version_of("torch-fidelity"):
        for name, peer in (("tf1", "torch-fidelity"), ("torchmetrics", "torchmetrics")):
            network = fidelity_network(ground.job, ["64"], of=peer)
            yield name, named(peer), partial(seen_by, network, network.Conv2d_1a_3x3, 128.0)
    if version_of("pytorch-fid"):
        network = pytorch_fid_network(ground.job, [0])
        seen = partial(seen_by, lambda batch: network(batch.float() / 255), network.blocks[0][0], 127.5)
        yield "legacy_pytorch", named("pytorch-fid"), seen


def resize_claims(ground: Ground, sizes: tuple[tuple[int, int], ...] = SIZES) -> Iterator[Claim]:
    """The largest difference in grey levels over all sizes; photographs are scaled to each by Lanczos first."""
    real = [Image.fromarray(image) for image in photographs()]
    kinds: dict[str, Callable[[int, int], list[Any]]] = {"1/f images": lambda h, w: synthetic(2, h, w)}
    if real:
        kinds["photographs"] = lambda h, w: [np.asarray(p.resize((w, h), Image.Resampling.LANCZOS)) for p in real]
    for name, peer, theirs in resizers(ground):
        for kind, make in kinds.items():
            worst = 0.0
            for size in sizes:
                batch = batch_of(make(*size))
                worst = max(worst, float((resize(batch, DIALECTS[name], 299) - theirs(batch)).abs().max()))
            what = f"resize of {kind}, {len(sizes)} sizes from {sizes[0][0]} to {max(map(max, sizes))} px"
            yield Claim(what, f"inception:{name}", peer, worst, GREY, "grey levels")


# What it answers ------------------------------------------------------------------------------------------


def answers(ground: Ground, batch: Tensor) -> Iterator[tuple[str, str, Mapping[str, Tensor]]]:
    """Each dialect with its peer and that peer's features of a batch by layer."""
    with torch.no_grad():
        if version_of("torch-fidelity"):
            network = fidelity_network(ground.job, list(LAYERS))
            yield "tf1", named("torch-fidelity"), dict(zip(LAYERS, network(batch), strict=True))
            network = fidelity_network(ground.job, list(LAYERS), of="torchmetrics")
            found = dict(zip(LAYERS, network._torch_fidelity_forward(batch), strict=True))
            yield "torchmetrics", named("torchmetrics"), found
        if version_of("pytorch-fid"):
            maps = pytorch_fid_network(ground.job, [0, 1, 2, 3])(batch.float() / 255)
            pooled = [torch.nn.functional.adaptive_avg_pool2d(found, 1).flatten(1) for found in maps]
            yield "legacy_pytorch", named("pytorch-fid"), dict(zip(LAYERS, pooled, strict=False))
        sized = module("cleanfid.resize").build_resizer("clean")
        images = [torch.from_numpy(sized(image.permute(1, 2, 0).numpy())).permute(2, 0, 1) for image in batch]
        network = clean_fid_network(ground)
        yield "clean:nvidia", f"{named('clean-fid')}, {_script_words(ground)}", {"2048": network(torch.stack(images))}


def clean_fid_network(ground: Ground) -> Any:
    """clean-fid's own wrapper around the TorchScript."""
    return module("cleanfid.inception_torchscript").InceptionV3W(str(ground.script_weights[1].parent), download=False)


def _script_words(ground: Ground) -> str:
    return "NVIDIA's script" if ground.script else "a stand-in of NVIDIA's script"


def feature_claims(ground: Ground, n: int = 3, layers: tuple[str, ...] = LAYERS) -> Iterator[Claim]:
    """The largest difference relative to the largest feature, a layer a row."""
    pictures = [image for image in photographs() if image.shape == (256, 256, 3)]
    kind = "photographs" if pictures else "1/f images"
    batch = batch_of([*pictures, *synthetic(n, 256, 256)][:n])
    for name, peer, theirs in answers(ground, batch):
        for layer in (layer for layer in layers if layer in theirs):
            ours = _features(ground, name, layer, batch)
            yield Claim(f"features {layer} of {kind}", f"inception:{name}", peer, apart(ours, theirs[layer]), 1e-5)


def _features(ground: Ground, name: str, layer: str, batch: Tensor) -> Tensor:
    if layer in ("2048", "logits_unbiased"):
        rows = ground.ours(name)(batch)
        return rows[:, :2048] if layer == "2048" else rows[:, 2048:]
    return ground.ours(f"{name}:{layer}")(batch)


# Folders --------------------------------------------------------------------------------------------------


def write_pair(folder: Path, n: int) -> tuple[Path, Path]:
    """Two folders of n PNG files of 64 px, real and fake; the fake ones are paler."""
    for seed, name in enumerate(("real", "fake")):
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(synthetic(n, 64, 64, seed)):
            pale = image if seed == 0 else (0.8 * image + 30).astype(np.uint8)
            Image.fromarray(pale).save(folder / name / f"{i:03d}.png")
    return folder / "real", folder / "fake"


def our_fid(ground: Ground, variant: str, real: Path, fake: Path) -> float:
    """fid of two folders by evalkit's own line: plan, measure, evaluate."""
    from evalkit.evaluation import Sides, evaluate, measure_side
    from evalkit.measurement import Bench
    from evalkit.planning import plan
    from evalkit.samples import open_samples
    from evalkit.types import Subject

    instrument = ground.ours(variant)
    tasks = plan([f"fid@{instrument.name}"], "image", with_train=False, with_timing=False)
    bench, made = Bench(workers=1), {instrument.name: instrument}
    one, other = (measure_side(w, open_samples(f), tasks, made, bench) for w, f in (("fake", fake), ("real", real)))
    subject = Subject("fake", "image", str(fake), len(one.samples), one.samples.digest)
    return float(evaluate(subject, Sides(one, other), tasks, seed=0, bench=bench).results[0].value)


def peer_fids(ground: Ground, real: Path, fake: Path, width: int) -> Iterator[tuple[str, str, float]]:
    """Each dialect with its peer and that peer's FID of the folders, by its public function."""
    weights = str(ground.weights[1])
    if version_of("torch-fidelity"):
        found = module("torch_fidelity").calculate_metrics(
            input1=str(fake), input2=str(real), cuda=False, fid=True, feature_extractor="inception-v3-compat",
            feature_extractor_weights_path=weights, feature_layer_fid=str(width), cache=False, save_cpu_ram=True,
            verbose=False,
        )  # fmt: skip
        yield "tf1", named("torch-fidelity"), float(found["frechet_inception_distance"])
        theirs = module("torchmetrics.image.fid").FrechetInceptionDistance(
            feature=width, feature_extractor_weights_path=weights
        )
        for folder, is_real in ((real, True), (fake, False)):
            pictures = [np.asarray(Image.open(f)) for f in sorted(folder.iterdir())]
            for start in range(0, len(pictures), 16):
                theirs.update(batch_of(pictures[start : start + 16]), real=is_real)
        yield "torchmetrics", named("torchmetrics"), float(theirs.compute())
    if version_of("pytorch-fid") and has_old_sqrtm():
        pytorch_fid_network(ground.job, [0])  # From here on it takes our weights.
        found = module("pytorch_fid.fid_score").calculate_fid_given_paths([str(real), str(fake)], 16, "cpu", width, 0)
        yield "legacy_pytorch", named("pytorch-fid"), float(found)
    if width == 2048 and has_old_sqrtm():
        fid, network = module("cleanfid.fid"), clean_fid_network(ground)
        sides = [
            fid.get_folder_features(str(f), network, num_workers=0, device=torch.device("cpu"), verbose=False)
            for f in (real, fake)
        ]
        yield "clean:nvidia", f"{named('clean-fid')}, {_script_words(ground)}", float(fid.fid_from_feats(*sides))


def folder_claims(ground: Ground, n: int = 96, width: int = 64, target: float = 1e-5) -> Iterator[Claim]:
    """FID of two folders from files to number; pool3 of few images has a singular root, which peers round."""
    with tempfile.TemporaryDirectory(dir=ground.folder) as place:
        real, fake = write_pair(Path(place), n)
        for name, peer, theirs in peer_fids(ground, real, fake, width):
            variant = name if width == 2048 else f"{name}:{width}"
            ours = our_fid(ground, variant, real, fake)
            what = f"FID of 2 x {n} files, {width} features"
            yield Claim(what, f"inception:{name}: {ours:.6f}", f"{peer}: {theirs:.6f}", apart(ours, theirs), target)


# LPIPS ----------------------------------------------------------------------------------------------------


def lpips_claims(ground: Ground, backbone: str = "alex") -> Iterator[Claim]:
    """Squared distance of two rows beside torchmetrics' LPIPS, the backbone's weights random and equal."""
    from evalkit.extractors.lpips import Lpips

    functional = module("torchmetrics.functional.image.lpips")
    theirs = functional._LPIPS(pretrained=False, net=backbone, pnet_rand=True)
    heads = Path(functional.__file__).parent / "lpips_models" / f"{backbone}.pth"
    theirs.load_state_dict(torch.load(heads, map_location="cpu", weights_only=True), strict=False)
    parts = [getattr(theirs.net, f"slice{i}") for i in range(1, 6)]
    layers = {name: layer for part in parts for name, layer in part.named_children()}
    tensors = {
        f"features.{name}.{part}": value for name, layer in layers.items() for part, value in layer.state_dict().items()
    }
    path = ground.folder / f"{backbone}.pth"
    torch.save(tensors, path)
    ours = Lpips(backbone, weights=replace(module("tests.inceptions").record_of(path)), path=path)
    prepared = torch.stack([ours.prepare(image) for image in synthetic(3, 96, 96)])
    with torch.no_grad():
        expected = theirs.eval()(prepared[[0, 0, 1]], prepared[[1, 2, 2]]).flatten()
        rows = ours(prepared).double()
    squared = (rows[[0, 0, 1]] - rows[[1, 2, 2]]).square().sum(dim=1)
    yield Claim(f"LPIPS, {backbone}", f"lpips:{backbone}", named("torchmetrics"), apart(squared, expected), 1e-5)


def dialect_spread(ground: Ground, n: int = 96) -> dict[str, float]:
    """FID of one pair of folders under each dialect, 64 features: how much a resizer alone moves a number."""
    with tempfile.TemporaryDirectory(dir=ground.folder) as place:
        real, fake = write_pair(Path(place), n)
        sides = [batch_of([np.asarray(Image.open(f)) for f in sorted(folder.iterdir())]) for folder in (real, fake)]
        found: dict[str, float] = {}
        for name in DIALECTS:
            instrument = ground.ours(f"{name}:64")
            rows = [torch.cat([instrument(b) for b in torch.split(side, 16)]) for side in sides]
            found[name] = frechet_distance(*rows)
    return found
