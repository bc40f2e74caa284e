"""Any image pipeline of the library diffusers, from a model hub or a local folder.

- It needs the extra: pip install 'evalkit[diffusers]'. The pipeline is loaded when it is first drawn from.
- Weights are read from safetensors only, and code that comes with a model is never run: a model folder with Python
  files in it is refused. With EVALKIT_OFFLINE or HF_HUB_OFFLINE set only what is on this machine is used.
- Sample i has a random generator of its own, seeded base + i on the CPU: it does not depend on how many are made at
  once, nor, up to rounding, on the device.
- Prompts come from a text file, one a line, and are taken in turn; they are kept as the samples' conditions. A pipeline
  without prompts (DDPM, DDIM, LDM) takes none.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from evalkit.errors import BadSetting, BadSource, RunFailed
from evalkit.types import Batch, Control

from ._external import External, base_seed, borrowed_chance, files_of, is_off, line_of, read_prompts


class Diffusers(External):
    """Images of a pretrained diffusers pipeline, without or with prompts."""

    name = "diffusers"
    modality = "image"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("model", "", "hub id or local folder of the pipeline"),
        Control("revision", "main", "branch, tag or commit on the hub"),
        Control("prompts", "", "text file with one prompt a line, where the pipeline takes prompts"),
        Control("steps", 50, "denoising steps", 1, 10_000),
        Control("guidance", 7.5, "classifier-free guidance scale, where the pipeline has one", 0, 100),
        Control("batch", 8, "images made at once; lower it when memory runs out", 1, 64),
    )

    _pipeline: Any = None
    _device = "cpu"

    def to(self, device: str) -> None:
        """Sample on `device` from now on."""
        self._device = device
        if self._pipeline is not None:
            self._pipeline.to(device)

    def _ready(self) -> None:
        if not self._settings["model"]:
            raise BadSetting("diffusers.model is empty; give a hub id or a local folder: --set model=OWNER/NAME")
        read_prompts(self.name, str(self._settings["prompts"]))

    def _named_files(self) -> Mapping[str, Path]:
        model, prompts = str(self._settings["model"]), str(self._settings["prompts"])
        return {**(files_of(Path(model)) if model else {}), **({"prompts": Path(prompts)} if prompts else {})}

    def _load(self) -> Any:
        if self._pipeline is None:
            loaded = self._from_disk(_library())
            loaded.set_progress_bar_config(disable=True)
            self._pipeline = loaded.to(self._device)
        return self._pipeline

    def _from_disk(self, library: Any) -> Any:
        """The pipeline, once its files are on this machine and known to hold no code."""
        model, maker = str(self._settings["model"]), library.DiffusionPipeline
        offline = is_off("EVALKIT_OFFLINE", "HF_HUB_OFFLINE")
        only = {"use_safetensors": True, "trust_remote_code": False}
        try:
            if not Path(model).is_dir():
                revision = str(self._settings["revision"])
                model = str(maker.download(model, revision=revision, local_files_only=offline, **only))
            code = next((name for name in files_of(Path(model)) if name.lower().endswith(".py")), None)
            if code is not None:
                raise BadSource(f"{model} comes with Python code ({code}), which is never run; choose another model")
            return maker.from_pretrained(model, local_files_only=True, **only)
        except BadSource:
            raise
        except Exception as e:  # The hub, the file system and every component raise classes of their own.
            switched = "; the network is switched off" if offline else ""
            raise RunFailed(f"diffusers cannot load {self._settings['model']!r} ({line_of(e)}){switched}") from e

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        pipeline, prompts = self._load(), read_prompts(self.name, str(self._settings["prompts"]))
        takes = inspect.signature(type(pipeline).__call__).parameters
        if "prompt" in takes and not prompts:
            raise BadSetting(f"{type(pipeline).__name__} makes images of prompts; give --set prompts=FILE, one a line")
        if "prompt" not in takes and (prompts or "batch_size" not in takes):
            said = (
                "prompts; leave diffusers.prompts empty"
                if prompts
                else "neither prompts nor a batch size; choose another"
            )
            raise BadSetting(f"{type(pipeline).__name__} takes {'no ' if prompts else ''}{said}")
        given = [prompts[i % len(prompts)] for i in range(start, start + count)] if prompts else None
        base, most = base_seed(rng), int(self._settings["batch"])
        made = []
        with borrowed_chance(rng, self._device):
            for first in range(0, count, most):
                which = range(first, min(first + most, count))
                seeds = [torch.Generator().manual_seed(base + start + i) for i in which]
                asked: dict[str, Any] = {"num_inference_steps": int(self._settings["steps"]), "generator": seeds}
                if given is None:
                    asked["batch_size"] = len(seeds)
                else:
                    asked["prompt"] = [given[i] for i in which]
                    asked["guidance_scale"] = float(self._settings["guidance"])
                made.append(
                    _pixels(pipeline(output_type="np", **{k: v for k, v in asked.items() if k in takes}).images)
                )
        return Batch(np.concatenate(made), None, given)


def _pixels(images: Any) -> npt.NDArray[np.uint8]:
    """uint8 [B, H, W, 3] of images in 0..1 [B, H, W, C]; RunFailed where they are not numbers."""
    values = np.asarray(images, dtype=np.float32)
    if not np.isfinite(values).all():
        raise RunFailed("the pipeline made values that are not finite; load it in a wider type or on another device")
    pixels = (values.clip(0, 1) * 255).round().astype(np.uint8)
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else np.ascontiguousarray(pixels[..., :3])


def _library() -> Any:
    try:
        return importlib.import_module("diffusers")
    except ImportError as e:
        raise RunFailed(f"diffusers is not installed ({line_of(e)}); pip install 'evalkit[diffusers]'") from e
