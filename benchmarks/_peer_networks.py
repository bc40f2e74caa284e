"""The peers as modules, and their Inception networks with the weights of one file."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def module(name: str) -> Any:
    """A peer's module; peers carry no types."""
    return importlib.import_module(name)


def version_of(package: str) -> str:
    """The installed version of a package, "" when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def has_old_sqrtm() -> bool:
    """Whether clean-fid's and pytorch-fid's Frechet distances can run: scipy 1.18 took away an argument they pass."""
    major, minor = version("scipy").split(".")[:2]
    return (int(major), int(minor)) < (1, 18)


@dataclass(frozen=True)
class Job:
    """What every tool is given: two folders, the weights and where to compute."""

    real: Path
    fake: Path
    weights: Path
    device: str = "cpu"
    threads: int = 1

    @property
    def files(self) -> list[Path]:
        return [f for folder in (self.real, self.fake) for f in sorted(folder.rglob("*")) if f.is_file()]


def evalkit_instrument(job: Job, variant: str = "tf1") -> Any:
    """evalkit's Inception on the weights of the job."""
    from evalkit.extractors.inception import Inception

    record_of: Any = module("tests.inceptions").record_of
    return Inception(variant, weights=record_of(job.weights), path=job.weights)


def fidelity_network(job: Job, layers: list[str], of: str = "torch-fidelity") -> Any:
    """The Inception of torch-fidelity, or torchmetrics' subclass of it."""
    if of == "torchmetrics":
        made = module("torchmetrics.image.fid").NoTrainInceptionV3("inception", layers, str(job.weights))
    else:
        made = module("torch_fidelity.feature_extractor_inceptionv3").FeatureExtractorInceptionV3(
            "inception", layers, str(job.weights)
        )
    return made.eval().requires_grad_(False).to(job.device)


def through_blocks(network: Any, batch: Tensor) -> Tensor:
    """pool3 features of a resized batch: torch-fidelity's blocks one after the other, without its own resize."""
    for name, block in network.named_children():
        batch = batch if name == "fc" else block(batch)
    return batch.flatten(1)


def pytorch_fid_network(job: Job, blocks: list[int]) -> Any:
    """The Inception of pytorch-fid; where it would download its weights, it is handed ours, now and later."""
    inception = module("pytorch_fid.inception")
    inception.load_state_dict_from_url = lambda *_given, **_named: torch.load(job.weights, weights_only=True)
    return inception.InceptionV3(blocks).eval().requires_grad_(False).to(job.device)
