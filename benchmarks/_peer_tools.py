"""Five tools that score a folder of images against another, each cut where its own code can be cut.

Every tool has decode (one file), resize (to the network's input), forward (to features), numbers (from features) and
whole (its public call on two folders). All run Inception with the weights of one file in the torch port's layout.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ._peer_networks import (
    Job,
    evalkit_instrument,
    fidelity_network,
    has_old_sqrtm,
    module,
    pytorch_fid_network,
    through_blocks,
    version_of,
)

BATCH = 16
NEIGHBOURS = 3


class Tool(Protocol):
    """One tool's way from files to numbers."""

    def decode(self, file: Path) -> Any: ...
    def resize(self, images: list[Any]) -> Tensor: ...
    def forward(self, batch: Tensor) -> Tensor: ...
    def numbers(self, real: Tensor, fake: Tensor, logits: Tensor) -> Mapping[str, float]: ...
    def whole(self) -> Mapping[str, float]: ...


class Evalkit:
    """fid, kid over all pairs, prdc and inception score, each with its 95 % interval, from one pass."""

    def __init__(self, job: Job) -> None:
        from evalkit.samples import open_samples

        self.job = job
        self.instrument = evalkit_instrument(job)
        self.samples = {str(f): s for folder in (job.real, job.fake) for f, s in _by_file(open_samples(folder), folder)}

    def decode(self, file: Path) -> Any:
        return self.instrument.prepare(self.samples[str(file)].load())

    def resize(self, images: list[Any]) -> Tensor:
        found: Tensor = self.instrument.arrange([image.to(self.job.device) for image in images])
        return found

    def forward(self, batch: Tensor) -> Tensor:
        self.instrument.to(self.job.device)
        rows: Tensor = self.instrument(batch)[:, :2048]
        return rows

    def backend(self) -> str:
        """What ran the network last."""
        return str(getattr(self.instrument, "backend", None) or "torch")

    def numbers(self, real: Tensor, fake: Tensor, logits: Tensor) -> Mapping[str, float]:
        from evalkit.metrics.frechet import frechet_estimate
        from evalkit.metrics.inception_score import inception_estimate
        from evalkit.metrics.kernel import kernel_estimate
        from evalkit.metrics.neighbours import neighbour_estimates

        found = {"fid": frechet_estimate(real, fake), "kid": kernel_estimate(real, fake)}
        found |= neighbour_estimates(real, fake, k=NEIGHBOURS)
        return {name: part.value for name, part in (found | {"isc": inception_estimate(logits)}).items()}

    def whole(self) -> Mapping[str, float]:
        from evalkit.evaluation import Sides, evaluate, measure_side
        from evalkit.measurement import Bench
        from evalkit.planning import plan
        from evalkit.samples import open_samples
        from evalkit.types import Subject

        names = [f"{metric}@{self.instrument.name}" for metric in ("fid", "kid", "prdc", "inception_score")]
        tasks = plan(names, "image", with_train=False, with_timing=False, settings={"prdc": {"k": NEIGHBOURS}})
        bench = Bench(self.job.device, workers=self.job.threads)
        made = {self.instrument.name: self.instrument}
        fake, real = (
            measure_side(word, open_samples(folder), tasks, made, bench)
            for word, folder in (("fake", self.job.fake), ("real", self.job.real))
        )
        subject = Subject("fake", "image", str(self.job.fake), len(fake.samples), fake.samples.digest)
        record = evaluate(subject, Sides(fake, real), tasks, seed=0, bench=bench)
        return {result.name: result.value for result in record.results}


def _by_file(samples: Any, folder: Path) -> list[tuple[str, Any]]:
    return [(str(folder / sample.id), sample) for sample in samples]


class TorchFidelity:
    """Inception score, FID, KID of 100 subsets, precision and recall."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.data = module("torch_fidelity.datasets").ImagesPathDataset([str(f) for f in job.files])
        self.place = {str(f): i for i, f in enumerate(job.files)}
        self.network = fidelity_network(job, ["2048"])

    def decode(self, file: Path) -> Any:
        return self.data[self.place[str(file)]]

    def resize(self, images: list[Any]) -> Tensor:
        like = module("torch_fidelity.interpolate_compat_tensorflow").interpolate_bilinear_2d_like_tensorflow1x
        batch = torch.stack(images).to(self.job.device).float()
        found: Tensor = (like(batch, size=(299, 299), align_corners=False) - 128) / 128
        return found

    def forward(self, batch: Tensor) -> Tensor:
        return through_blocks(self.network, batch)

    def numbers(self, real: Tensor, fake: Tensor, logits: Tensor) -> Mapping[str, float]:
        fid, kid, prc = (module(f"torch_fidelity.metric_{name}") for name in ("fid", "kid", "prc"))
        found = module("torch_fidelity.metric_isc").isc_features_to_metric(logits)
        statistics = [fid.fid_features_to_statistics(rows) for rows in (fake, real)]
        found |= fid.fid_statistics_to_metric(*statistics, verbose=False)
        size = min(1000, len(real), len(fake))
        found |= kid.kid_features_to_metric(fake, real, kid_subset_size=size, verbose=False)
        return dict(found | prc.prc_features_to_metric(fake, real, prc_neighborhood=NEIGHBOURS, verbose=False))

    def whole(self) -> Mapping[str, float]:
        n = min(sum(1 for f in folder.rglob("*") if f.is_file()) for folder in (self.job.real, self.job.fake))
        found = module("torch_fidelity").calculate_metrics(
            input1=str(self.job.fake),
            input2=str(self.job.real),
            cuda=self.job.device != "cpu",
            isc=True,
            fid=True,
            kid=True,
            prc=True,
            feature_extractor="inception-v3-compat",
            feature_extractor_weights_path=str(self.job.weights),
            kid_subset_size=min(1000, n),
            samples_find_deep=True,
            cache=False,
            verbose=False,
        )
        return dict(found)


class TorchMetrics:
    """FID."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.network = fidelity_network(job, ["2048"], of="torchmetrics")

    def decode(self, file: Path) -> Any:
        return torch.from_numpy(np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1).copy())

    def resize(self, images: list[Any]) -> Tensor:
        batch = torch.stack(images).to(self.job.device).float()
        sized = torch.nn.functional.interpolate(
            batch, size=(299, 299), mode="bilinear", align_corners=False, antialias=True
        )
        return (sized - 128) / 128

    def forward(self, batch: Tensor) -> Tensor:
        return through_blocks(self.network, batch)

    def numbers(self, real: Tensor, fake: Tensor, logits: Tensor) -> Mapping[str, float]:
        class Same(torch.nn.Module):
            num_features = real.shape[1]

            def forward(self, rows: Tensor) -> Tensor:
                return rows

        return self._fid(Same(), {True: [real], False: [fake]})

    def whole(self) -> Mapping[str, float]:
        network = fidelity_network(self.job, ["2048"], of="torchmetrics")
        network.num_features = 2048
        return self._fid(network, {True: self._batches(self.job.real), False: self._batches(self.job.fake)})

    def _batches(self, folder: Path) -> Any:
        files = sorted(f for f in folder.rglob("*") if f.is_file())
        for start in range(0, len(files), BATCH):
            yield torch.stack([self.decode(f) for f in files[start : start + BATCH]]).to(self.job.device)

    def _fid(self, network: Any, sides: Mapping[bool, Any]) -> Mapping[str, float]:
        found = module("torchmetrics.image.fid").FrechetInceptionDistance(feature=network).to(self.job.device)
        for is_real, batches in sides.items():
            for batch in batches:
                found.update(batch, real=is_real)
        return {"fid": float(found.compute())}


class CleanFid:
    """FID; evalkit's network stands in for the TorchScript that clean-fid downloads."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.sized = module("cleanfid.resize").build_resizer("clean")
        self.instrument = evalkit_instrument(job, "clean")

    def decode(self, file: Path) -> Any:
        return np.array(Image.open(file).convert("RGB"))

    def resize(self, images: list[Any]) -> Tensor:
        return torch.from_numpy(np.stack([self.sized(image) for image in images])).permute(0, 3, 1, 2)

    def forward(self, batch: Tensor) -> Tensor:
        self.instrument.to(self.job.device)
        rows: Tensor = self.instrument((batch.to(self.job.device) - 128) / 128)[:, :2048]
        return rows

    def numbers(self, real: Tensor, fake: Tensor, logits: Tensor) -> Mapping[str, float]:
        return {"fid": float(module("cleanfid.fid").fid_from_feats(real.numpy(), fake.numpy()))}

    def whole(self) -> Mapping[str, float]:
        fid = module("cleanfid.fid")
        workers = 0 if self.job.threads == 1 else self.job.threads
        sides = [
            fid.get_folder_features(
                str(folder),
                self.forward,
                num_workers=workers,
                batch_size=BATCH,
                device=torch.device(self.job.device),
                verbose=False,
            )
            for folder in (self.job.real, self.job.fake)
        ]
        return {"fid": float(fid.fid_from_feats(*sides))}


class PytorchFid:
    """FID."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.score = module("pytorch_fid.fid_score")
        self.network = pytorch_fid_network(job, [3])

    def decode(self, file: Path) -> Any:
        return module("torchvision.transforms").ToTensor()(Image.open(file).convert("RGB"))

    def resize(self, images: list[Any]) -> Tensor:
        batch = torch.stack(images).to(self.job.device)
        return 2 * torch.nn.functional.interpolate(batch, size=(299, 299), mode="bilinear", align_corners=False) - 1

    def forward(self, batch: Tensor) -> Tensor:
        for block in self.network.blocks:
            batch = block(batch)
        return batch.flatten(1)

    def numbers(self, real: Tensor, fake: Tensor, logits: Tensor) -> Mapping[str, float]:
        sides = [rows.double().numpy() for rows in (real, fake)]
        given = [part for rows in sides for part in (rows.mean(axis=0), np.cov(rows, rowvar=False))]
        return {"fid": float(self.score.calculate_frechet_distance(*given))}

    def whole(self) -> Mapping[str, float]:
        workers = 0 if self.job.threads == 1 else self.job.threads
        paths = [str(self.job.real), str(self.job.fake)]
        found = self.score.calculate_fid_given_paths(paths, BATCH, self.job.device, 2048, workers)
        return {"fid": float(found)}


@dataclass(frozen=True)
class Entry:
    """A tool, the packages it needs, and the network backend where evalkit has several."""

    tool: Any
    packages: tuple[str, ...] = ()
    backend: str = ""

    def environment(self, threads: int) -> dict[str, str]:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        own = dict.fromkeys(names, str(threads)) | {"EVALKIT_BACKEND": self.backend or "torch"}
        return dict(os.environ) | own | {"PYTHONWARNINGS": "ignore"}

    @property
    def is_here(self) -> bool:
        needs_scipy = self.tool in (CleanFid, PytorchFid)
        return all(map(version_of, self.packages)) and (has_old_sqrtm() or not needs_scipy)


TOOLS: Mapping[str, Entry] = MappingProxyType(
    {
        "evalkit": Entry(Evalkit, backend="torch"),
        "evalkit, onnx": Entry(Evalkit, ("onnx", "onnxruntime"), "onnx"),
        "evalkit, openvino": Entry(Evalkit, ("openvino",), "openvino"),
        "torch-fidelity": Entry(TorchFidelity, ("torch-fidelity",)),
        "torchmetrics": Entry(TorchMetrics, ("torchmetrics", "torch-fidelity")),
        "clean-fid": Entry(CleanFid, ("clean-fid",)),
        "pytorch-fid": Entry(PytorchFid, ("pytorch-fid",)),
    }
)
