"""One CLIP network of open_clip, loaded when it is first needed and shared by its image side and its text side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..errors import RunFailed, UnknownName
from ..weights import Weights
from ._center import Fit, View
from ._network import Checkpoint, hub_file

# What OpenAI's files hold beside tensors of the network.
NOT_TENSORS = ("input_resolution", "context_length", "vocab_size")
FITS: Mapping[str, Fit] = MappingProxyType({"shortest": "shorter", "squash": "squash"})
FILTERS = ("bicubic", "bilinear")


@lru_cache(maxsize=1)
def _folder() -> Path:
    """Where open_clip keeps its model configurations; found without importing it, which takes seconds."""
    spec = find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise RunFailed("open_clip is not installed; install open_clip_torch")
    return Path(spec.submodule_search_locations[0]) / "model_configs"


@lru_cache(maxsize=1)
def model_names() -> tuple[str, ...]:
    """The models that open_clip knows."""
    return tuple(sorted(path.stem for path in _folder().glob("*.json")))


@lru_cache(maxsize=64)
def configuration(model: str) -> tuple[int, int]:
    """Columns of an embedding, and side of the image in pixels, of a model that open_clip knows."""
    found = json.loads((_folder() / f"{model}.json").read_text("utf-8"))
    side = found["vision_cfg"].get("image_size", 224)
    return int(found["embed_dim"]), int(side[0] if isinstance(side, list) else side)


class Tower:
    """Both encoders of one model with one set of weights, in float32, and its tokenizer.

    With a record, or OpenAI's tag, all facts are known at once; for other tags they are read from open_clip by `fetch`.
    """

    def __init__(self, name: str, model: str, tag: str, view: View, record: Weights | None, path: Path | None) -> None:
        self.view = view
        self._name, self._model, self._tag = name, model, tag
        self._quick_gelu = tag == "openai"
        self._file = Checkpoint(name, record, path, self._locate)
        self._network: Any = None
        self._place = ""
        self._fetched = False

    @property
    def terms(self) -> dict[str, str]:
        """What both sides' digests cover; RunFailed before `fetch` where the weights are not pinned."""
        return {"model": self._model, "tag": self._tag, "weights": self._file.sha256}

    @property
    def about(self) -> Mapping[str, str]:
        return {"network": f"{self._model} / {self._tag} of open_clip, float32", **self._file.about}

    def fetch(self) -> None:
        """Find the weight file, and what the published weights want of an image; raises RunFailed, UnknownName."""
        if not self._fetched:
            if self._file.record is None:
                self._read_facts()
            self._file.fetch()
            self._fetched = True

    def _read_facts(self) -> None:
        from open_clip import pretrained

        facts = pretrained.get_pretrained_cfg(self._model, self._tag)
        if not facts:
            tags = pretrained.list_pretrained_tags_by_model(self._model)
            raise UnknownName(f"weights of the CLIP model {self._model}", self._tag, tags or ["none"])
        fit, filter = FITS.get(facts["resize_mode"]), facts["interpolation"]
        if fit is None or filter not in FILTERS:
            raise RunFailed(
                f"{self._name} wants images resized by {facts['resize_mode']}, {filter}; known: {', '.join(FITS)}"
            )
        self.view = replace(self.view, fit=fit, filter=filter, mean=tuple(facts["mean"]), std=tuple(facts["std"]))
        self._quick_gelu = bool(facts.get("quick_gelu", False))
        self._place = str(facts.get("hf_hub", ""))

    def _locate(self) -> Path:
        """The published file of a tag that nobody pinned, on the Hugging Face hub."""
        repository, _, file = self._place.rpartition("/")
        if not repository:
            raise RunFailed(f"open_clip names no file on the Hugging Face hub for {self._name}; hand in its path")
        if file:
            return hub_file(repository, file)
        try:
            return hub_file(repository, "open_clip_model.safetensors")
        except RunFailed:
            return hub_file(repository, "open_clip_pytorch_model.bin")

    def to(self, device: str) -> None:
        """Load the network the first time, and have it on `device`."""
        if self._network is None:
            self._network = self._loaded()
        self._network.to(device)

    def network(self, device: torch.device) -> Any:
        """The network, on `device` when it was not loaded before."""
        if self._network is None:
            self.to(str(device))
        return self._network

    def _loaded(self) -> Any:
        self.fetch()
        network = _built(self._model, self._quick_gelu)
        try:
            if self._file.record is not None:
                tensors = {key: t for key, t in self._file.tensors().items() if key not in NOT_TENSORS}
                network.load_state_dict(tensors)
            else:
                from open_clip.factory import load_checkpoint

                load_checkpoint(network, str(self._file.fetch()), strict=True, weights_only=True)
        except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
            reason = " ".join(str(error).split())[:300]
            raise RunFailed(f"the weight file does not fit {self._name}: {reason}") from error
        return network.float().eval().requires_grad_(False)

    @cached_property
    def _tokenizer(self) -> Any:
        import open_clip

        try:
            return open_clip.get_tokenizer(self._model)
        except Exception as error:  # A tokenizer of transformers' may be missing in many ways.
            reason = " ".join(str(error).split())[:200]
            raise RunFailed(f"the tokenizer of {self._name} cannot be loaded: {reason}") from error

    def tokens(self, text: str) -> Tensor:
        """int64 [context]; a longer text is cut, and its end token, where the embedding is read, is kept."""
        row: Tensor = self._tokenizer([text])[0]
        end = getattr(self._tokenizer, "eot_token_id", None)
        if end is not None and not bool((row == end).any()):
            row[-1] = end
        return row


def _built(model: str, quick_gelu: bool) -> Any:
    """The network with first weights, drawn without touching the caller's random stream.

    Not by open_clip's own `create_model`, which takes GELU for OpenAI's weights when they are given as a file, and
    warns through the root logger when it is given none.
    """
    import open_clip

    settings = open_clip.get_model_config(model)
    vision, text = settings["vision_cfg"], settings["text_cfg"]
    custom = settings.pop("custom_text", False) or "hf_model_name" in text
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    settings["quick_gelu"] = quick_gelu or settings.get("quick_gelu", False)
    kind = open_clip.CoCa if "multimodal_cfg" in settings else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    with torch.random.fork_rng(devices=[]):
        return kind(**settings)
