"""Any causal language model of the library transformers, from a model hub or a local folder.

- It needs the extra: pip install 'evalkit[transformers]'. The model is loaded when it is first drawn from.
- Weights are read from safetensors only, and code that comes with a model is never run. With EVALKIT_OFFLINE or
  HF_HUB_OFFLINE set only what is on this machine is used.
- A sample is what the model writes after the prompt, without the prompt, which is kept as the sample's condition.
  Without a prompt it starts from its token for the beginning of a text.
- Plain sampling from p(token)^(1 / temperature), cut to the nucleus top_p (Holtzman et al. 2020); top-k, which
  transformers otherwise sets to 50, is off. What else the model's own generation settings say holds.
- A text that is blank is drawn again: an empty file is no sample.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from evalkit.errors import BadSetting, RunFailed
from evalkit.types import Batch, Control

from ._external import External, borrowed_chance, files_of, is_off, line_of

TRIES = 8


class Transformers(External):
    """Texts of a pretrained causal language model."""

    name = "transformers"
    modality = "text"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("model", "", "hub id or local folder of the language model"),
        Control("revision", "main", "branch, tag or commit on the hub"),
        Control("prompt", "", "what every text begins with; empty for none"),
        Control("max_new_tokens", 128, "longest text, in tokens", 1, 100_000),
        Control("temperature", 1.0, "below 1 plays safe, above 1 takes risks", 0.01, 10),
        Control("top_p", 1.0, "share of probability that tokens are drawn from", 0.01, 1),
        Control("batch", 16, "texts made at once; lower it when memory runs out", 1, 64),
    )

    _model: Any = None
    _tokenizer: Any = None
    _device = "cpu"

    def to(self, device: str) -> None:
        """Sample on `device` from now on."""
        self._device = device
        if self._model is not None:
            self._model.to(device)

    def _ready(self) -> None:
        if not self._settings["model"]:
            raise BadSetting("transformers.model is empty; give a hub id or a local folder: --set model=OWNER/NAME")

    def _named_files(self) -> Mapping[str, Path]:
        model = str(self._settings["model"])
        return files_of(Path(model)) if model else {}

    def _load(self) -> tuple[Any, Any]:
        if self._model is None:
            library, name = _library(), str(self._settings["model"])
            offline = is_off("EVALKIT_OFFLINE", "HF_HUB_OFFLINE")
            only: dict[str, Any] = {"trust_remote_code": False, "local_files_only": offline}
            if not Path(name).is_dir():
                only["revision"] = str(self._settings["revision"])
            try:
                tokenizer = library.AutoTokenizer.from_pretrained(name, **only)
                model = library.AutoModelForCausalLM.from_pretrained(name, use_safetensors=True, **only)
                self._model, self._tokenizer = model.eval().to(self._device), tokenizer
            except Exception as e:  # The hub, the file system and every model class raise classes of their own.
                switched = "; the network is switched off" if offline else ""
                raise RunFailed(f"transformers cannot load {name!r} ({line_of(e)}){switched}") from e
        return self._model, self._tokenizer

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        model, tokenizer = self._load()
        prompt, most = str(self._settings["prompt"]), int(self._settings["batch"])
        texts: list[str] = []
        with borrowed_chance(rng, self._device):
            begun = self._begun(tokenizer, prompt)
            for first in range(0, count, most):
                texts += self._written(model, tokenizer, begun, min(most, count - first))
        return Batch(texts, None, [prompt] * count if prompt else None)

    def _begun(self, tokenizer: Any, prompt: str) -> Tensor:
        """Token ids of the prompt [1, T], or of the beginning of a text."""
        if prompt:
            ids: Tensor = tokenizer(prompt, return_tensors="pt").input_ids
            return ids.to(self._device)
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if begin is None:
            raise BadSetting(
                f"{self._settings['model']} has no token for the beginning of a text; give --set prompt=..."
            )
        return torch.tensor([[begin]], device=self._device)

    def _written(self, model: Any, tokenizer: Any, begun: Tensor, count: int) -> list[str]:
        """`count` texts that are not blank, as the model continues `begun` [1, T]."""
        texts: list[str] = []
        # Models of texts have a token to pad with, or one that ends a text and will do.
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        for _ in range(TRIES):
            ids = begun.expand(count - len(texts), -1)
            made = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                num_beams=1,
                temperature=float(self._settings["temperature"]),
                top_p=float(self._settings["top_p"]),
                top_k=0,
                max_new_tokens=int(self._settings["max_new_tokens"]),
                pad_token_id=pad,
            )
            written = tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)
            texts += [t.strip() for t in written if t.strip()]
            if len(texts) == count:
                return texts
        raise RunFailed(f"{self._settings['model']} wrote nothing but blanks {TRIES} times; give it another prompt")


def _library() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as e:
        raise RunFailed(f"transformers is not installed ({line_of(e)}); pip install 'evalkit[transformers]'") from e
