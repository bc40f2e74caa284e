"""A causal language model of the library transformers, from a local folder or the Hugging Face hub.

- It needs the extra: pip install 'evalkit[hf]'. Files are found by `fetch`, weights are read when first needed.
- Weights are read from safetensors only and computed with in float32; code that comes with a model is never run. With
  EVALKIT_OFFLINE or HF_HUB_OFFLINE set only what is on this machine is used.
- Prefix: the tokenizer's token for the beginning of a text, else the one for its end, as in lm-evaluation-harness; the
  tokenizer itself adds nothing.
- Logits are taken to be a product of the last states and the output embedding where that gives the model's own logits
  for a few tokens; models that do more to them (softcapping, scaling) are read whole, some positions at a time.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from ...errors import BadSetting, BadSource, RunFailed
from ...weights import digest_of_file
from .instrument import CausalLM, Opened
from .streaming import Head

# Names of a model's files that decide what it computes; the documentation beside them does not.
PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model")
# What a tokenizer of transformers is kept in; a folder with none of them has no tokenizer.
TOKENIZERS = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model",
    "tokenizer_config.json",
)  # fmt: skip
# Where a configuration says how many tokens a model reads at once, as lm-evaluation-harness looks for it, and what is
# taken where nothing says it.
CONTEXT_KEYS = ("n_positions", "max_position_embeddings", "n_ctx")
DEFAULT_CONTEXT = 2048
# A tokenizer that knows of no limit says 1e30.
NO_LIMIT = 1 << 30
# Tokens of the trial, and how far its logits may be apart relative to the largest.
TRIAL, AGREEMENT = 8, 1e-4


class HubLM(CausalLM):
    """Causal language model of transformers: `hf_lm:FOLDER` or `hf_lm:OWNER/NAME`; nats and per-token statistics."""

    name = "hf_lm"
    kind = "hf_lm"
    place_says = "FOLDER or OWNER/NAME of the hub"

    def _open(self, place: str) -> Opened:
        library = transformers()
        folder = folder_of(place)
        weights = sorted(folder.glob("*.safetensors"))
        if not weights:
            others = ", ".join(sorted(p.name for p in folder.glob("*.bin")) or ["none"])
            raise BadSetting(f"{place} holds no .safetensors (other weight files: {others}); pickles are not read")
        only: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        check_tokenizer(folder)
        tokenizer = made(library.AutoTokenizer.from_pretrained, folder, "tokenizer", only)
        config = made(library.AutoConfig.from_pretrained, folder, "configuration", only).get_text_config()
        check_vocabularies(place, len(tokenizer), int(config.vocab_size))
        prefix, says = _prefix(tokenizer)

        def load() -> HubNetwork:
            own = {**only, "use_safetensors": True}
            model = made(library.AutoModelForCausalLM.from_pretrained, folder, "model", own)
            return HubNetwork(model, context)

        context = _context(config, tokenizer)
        vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
        return Opened(
            files=digests(folder),
            encode=_encoder(tokenizer),
            prefix=prefix,
            prefix_says=says,
            tokens=hashlib.sha256(vocabulary.encode()).hexdigest(),
            context=context,
            width=_width(config),
            load=load,
            about={"network": f"{config.model_type} of transformers, {int(config.vocab_size)} tokens"},
        )


class HubNetwork:
    """A model of transformers: states and output embedding, or logits some positions at a time."""

    def __init__(self, model: Any, context: int) -> None:
        self._model = model.float().eval().requires_grad_(False)
        self.context = context
        self.head = _head_of(self._model)
        self.vocabulary = int(self._model.get_output_embeddings().weight.shape[0])

    def to(self, device: str) -> None:
        self._model.to(device)
        # Weights are new tensors on the new device.
        self.head = None if self.head is None else _head_of(self._model, tried=True)

    def states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """float32 [B, S, D]; a mask is given only where there is padding, because attention is faster without."""
        mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        asked = {} if bool(mask.all()) else {"attention_mask": mask.long()}
        found: Tensor = self._model.base_model(input_ids=tokens, use_cache=False, **asked).last_hidden_state
        return found

    def blocks(self, tokens: Tensor, size: int) -> Iterator[Tensor]:
        """Logits float32 [n, V] of one window, with the keys and values of what came before."""
        past = None
        for part in torch.split(tokens, size):
            found = self._model(input_ids=part[None], past_key_values=past, use_cache=True)
            past = found.past_key_values
            yield found.logits[0].float()


def transformers() -> Any:
    """The library; RunFailed with the line that installs it."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise RunFailed(f"transformers is not installed ({_line(error)}); pip install 'evalkit[hf]'") from error


def folder_of(place: str) -> Path:
    """The folder of a model: a local one, or that of a hub model on this machine, downloaded if need be.

    Raises BadSource for a place that is no folder and not called OWNER/NAME, unless the hub's own cache has it under
    that name; RunFailed for a model of the hub that cannot be had.
    """
    folder = Path(place)
    with suppress(RuntimeError):  # The home of a user who is unknown here.
        folder = folder.expanduser()
    if folder.is_dir():
        return folder
    owner_and_name = place.count("/") == 1 and "\\" not in place and not place.startswith((".", "/", "~"))
    if owner_and_name:
        return downloaded(place)
    try:
        return downloaded(place, only_here=True)
    except (BadSource, RunFailed) as error:
        raise BadSource(
            f"{place!r} is no folder and no OWNER/NAME of a hub model; give the folder of the model, or its whole name"
            " on the hub, such as openai-community/gpt2"
        ) from error


def downloaded(place: str, *, only_here: bool = False) -> Path:
    """The folder of a hub model on this machine, downloaded if need be; BadSource or RunFailed when there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    words = [os.environ.get(name, "").strip().lower() for name in ("EVALKIT_OFFLINE", "HF_HUB_OFFLINE")]
    offline = only_here or any(word in ("1", "true", "yes", "on") for word in words)
    try:
        return Path(
            snapshot_download(place, allow_patterns=list(PATTERNS), ignore_patterns=["*/*"], local_files_only=offline)
        )
    except HFValidationError as error:
        raise BadSource(f"{place!r} is no folder and no name on the hub; expected FOLDER or OWNER/NAME") from error
    except Exception as error:  # The hub client raises errors of four libraries.
        switched = " with the network switched off" if offline else ""
        raise RunFailed(
            f"{place!r} is no folder, and a hub model of this name is not on this machine and could not be fetched"
            f"{switched} ({type(error).__name__})"
        ) from error


def check_tokenizer(folder: Path) -> None:
    """Refuse a folder without any tokenizer file: transformers would speak of a network it was not asked to use."""
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise BadSource(
            f"{folder} holds no tokenizer (none of {', '.join(TOKENIZERS)}); put that of the model beside its weights:"
            " AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER)"
        )


def check_vocabularies(place: str, tokenizer: int, model: int) -> None:
    """Refuse a tokenizer that has tokens the model cannot predict; fewer are common, since models round up."""
    if tokenizer > model:
        raise BadSetting(
            f"{place}: the tokenizer has {tokenizer} tokens, the model predicts {model}; they do not belong together"
        )


def made(make: Callable[..., Any], folder: Path, part: str, only: Mapping[str, Any]) -> Any:
    """What a loader of transformers makes of a folder; RunFailed, one line that names the part, when it fails."""
    try:
        return make(str(folder), **only)
    except Exception as error:  # The file system and every model class raise classes of their own.
        raise RunFailed(f"the {part} in {folder} cannot be loaded ({_line(error)})") from error


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return "".join(c if c.isprintable() else " " for c in first)[:200]


def digests(folder: Path) -> dict[str, str]:
    """sha256 by name of the files that decide what a model of transformers computes."""
    paths = {path.name: path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()}
    return {name: digest_of_file(path) for name, path in sorted(paths.items())}


def _prefix(tokenizer: Any) -> tuple[int | None, str]:
    for word, token in (("beginning", tokenizer.bos_token_id), ("end", tokenizer.eos_token_id)):
        if token is not None:
            return int(token), f"the token for the {word} of a text, number {int(token)}"
    return None, "none"


def _context(config: Any, tokenizer: Any) -> int:
    found = [getattr(config, key, None) for key in CONTEXT_KEYS] + [tokenizer.model_max_length]
    return next((int(c) for c in found if c is not None and 0 < int(c) < NO_LIMIT), DEFAULT_CONTEXT)


def _width(config: Any) -> int:
    # OPT narrows its last states to the width of its embedding.
    return int(getattr(config, "word_embed_proj_dim", None) or config.hidden_size)


def _encoder(tokenizer: Any) -> Callable[[str], Sequence[int]]:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    lock = Lock()
    if fast is not None:
        # A tokenizer file may carry limits of its own; every token of a text is read here.
        fast.no_truncation()
        fast.no_padding()

    def encode(text: str) -> Sequence[int]:
        if fast is not None:
            # Straight to the tokenizer: the wrapper sets options of its own, which loader threads must not do at once.
            found: Sequence[int] = fast.encode(text, add_special_tokens=False).ids
            return found
        with lock:
            return [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]

    return encode


@torch.no_grad()
def _head_of(model: Any, tried: bool = False) -> Head | None:
    """The output embedding, where it alone makes logits of states; tried: this was found before."""
    layer = model.get_output_embeddings()
    if layer is None or not hasattr(layer, "weight"):
        raise RunFailed(f"{type(model).__name__} has no output embedding; it is no causal language model")
    head = Head(layer.weight, getattr(layer, "bias", None))
    if tried:
        return head
    tokens = torch.arange(TRIAL)[None] % len(head.weight)
    logits = model(input_ids=tokens, use_cache=False).logits[0]
    states = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[0]
    made = (
        torch.nn.functional.linear(states, head.weight, head.bias) if states.shape[1] == head.weight.shape[1] else None
    )
    if made is None or made.shape != logits.shape:
        return None
    return head if float((made - logits).abs().max()) <= AGREEMENT * float(logits.abs().max()) else None
