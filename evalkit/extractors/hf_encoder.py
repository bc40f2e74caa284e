"""Text embeddings by an encoder of the library transformers, from a local folder or the Hugging Face hub.

`hf_encoder:FOLDER` or `hf_encoder:OWNER/NAME`. Row = `:pool=mean` (the default), the mean of the last hidden states
over the tokens, the tokenizer's own marks included, as Sentence-BERT has it (Reimers and Gurevych 2019, section 3), or
`:pool=cls`, the state of the first token. `:norm` scales a row to length 1; without it it is as the network gives it.

- It needs the extra: pip install 'evalkit[hf]'. Weights are read from safetensors only and computed with in float32;
  code that comes with a model is never run. With EVALKIT_OFFLINE or HF_HUB_OFFLINE set only what is on this machine is
  used.
- Of a text longer than the encoder reads, or than `:context=N` tokens, the beginning counts.
- What a folder says for the library sentence-transformers (pooling, normalisation, a shorter limit of tokens) is not
  read: ask for it by the settings. Dense layers behind the pooling are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..errors import BadSetting, ModalityMismatch, RunFailed, UnknownName, UnreadableSample
from ._network import plain_float32
from .causal.hub import NO_LIMIT, check_tokenizer, check_vocabularies, digests, folder_of, made, transformers
from .causal.instrument import checked_size, packed, unpacked
from .identity import identity

if TYPE_CHECKING:
    from ..types import Media

VERSION = 1
KEYS = ("pool", "context", "norm")
POOLS: Mapping[str, str] = MappingProxyType(
    {"mean": "mean of the last hidden states over all tokens", "cls": "last hidden state of the first token"}
)
DEFAULT_CONTEXT = 512
# Architectures whose positions begin behind that of padding.
BEHIND_PADDING = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text"})
# Tokens of a batch, padding counted; the shortest text of a batch has at least this share of its longest.
TOKENS = {"cpu": 2048}
TOKENS_ELSEWHERE = 32_768
SHORTEST = 0.8


class Asked(NamedTuple):
    """What a variant says: the place of the model and the settings after it; context: 0 for the model's own."""

    place: str
    pool: str
    context: int
    norm: bool


class Opened(NamedTuple):
    """A folder that was checked: sha256 by file, tokenizer, configuration, and tokens the model reads at once."""

    folder: Path
    files: Mapping[str, str]
    tokenizer: Any
    config: Any
    context: int


class HubEncoder:
    """Text embedding by an encoder of transformers: `hf_encoder:FOLDER` or `hf_encoder:OWNER/NAME`."""

    name = "hf_encoder"
    modality: Literal["text"] = "text"

    def __init__(self, variant: str = "") -> None:
        """variant: a place, and settings after it (`:pool=cls:norm:context=N`); nothing is opened before `fetch`."""
        self.name = f"hf_encoder:{variant}" if variant else "hf_encoder"
        self._variant, self._device = variant, "cpu"
        self._lock = Lock()
        self._model: Any = None

    @cached_property
    def _asked(self) -> Asked:
        return split(self._variant)

    @cached_property
    def opened(self) -> Opened:
        """The model's files; BadSetting or RunFailed, one line, when they are not what they should be."""
        place = self._asked.place
        library = transformers()
        folder = folder_of(place)
        if not list(folder.glob("*.safetensors")):
            raise BadSetting(f"{place} holds no .safetensors; pickles are not read")
        only: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        check_tokenizer(folder)
        tokenizer = made(library.AutoTokenizer.from_pretrained, folder, "tokenizer", only)
        config = made(library.AutoConfig.from_pretrained, folder, "configuration", only)
        if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
            raise BadSetting(f"{place} is a model of type {config.model_type}, no text encoder; give one like BERT")
        check_vocabularies(place, len(tokenizer), int(config.vocab_size))
        return Opened(folder, digests(folder), tokenizer, config, _context(config, tokenizer))

    @property
    def context(self) -> int:
        """Tokens that are read of a text, the tokenizer's marks among them; BadSetting when more are asked for."""
        asked, most = self._asked.context, self.opened.context
        least = self.opened.tokenizer.num_special_tokens_to_add() + 1
        found = asked or most
        if not least <= found <= most:
            raise BadSetting(f"context = {found}; expected {least} to {most}, which is what the model has")
        return found

    @property
    def digest(self) -> str:
        terms = {"files": dict(self.opened.files), "pool": self._asked.pool, "norm": self._asked.norm}
        return identity("hf_encoder", VERSION, {**terms, "context": self.context})

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"features": slice(0, int(self.opened.config.hidden_size))})

    @property
    def about(self) -> Mapping[str, str]:
        return MappingProxyType(
            {
                "network": f"{self.opened.config.model_type} of transformers",
                "features": POOLS[self._asked.pool],
                "length": "scaled to 1" if self._asked.norm else "as the network gives it",
                "context": f"{self.context} tokens, of a longer text the beginning",
                "dtype": "float32",
                **{f"sha256 of {name}": sha256 for name, sha256 in self.opened.files.items()},
            }
        )

    def fetch(self) -> None:
        """Have the model's files on this machine and checked; raises BadSetting or RunFailed, one line."""
        _ = self.opened, self.context

    def prepare(self, sample: Media) -> Tensor:
        """int64 [T], the text's tokens with the tokenizer's own marks, at most the context.

        UnreadableSample when the text is empty, over 1 MiB, holds half of a surrogate pair, or has no token.
        """
        if not isinstance(sample, str):
            raise ModalityMismatch(f"{self.name} reads texts and was given an image")
        checked_size(sample)
        tokenizer = self.opened.tokenizer
        # Cutting sets options of the tokenizer itself, which loader threads must not do at once.
        with self._lock:
            tokens = tokenizer(sample, truncation=True, max_length=self.context, verbose=False)["input_ids"]
        if len(tokens) <= tokenizer.num_special_tokens_to_add():
            raise UnreadableSample(f"the text has no token to {self.name}")
        return torch.tensor(tokens)

    def arrange(self, prepared: Sequence[Tensor]) -> Tensor:
        """One batch, int64 [1 + B + sum of lengths]: B, the B lengths, and the texts one after the other."""
        return packed(prepared)

    def to(self, device: str) -> None:
        self._device = device
        self._loaded.to(device)

    def __call__(self, batch: Tensor) -> Tensor:
        """Rows float32 [B, D] of a batch as `arrange` made it; texts of like length are read together."""
        texts = unpacked(batch)
        found: dict[int, Tensor] = {}
        with plain_float32(batch.device):
            for chosen in alike([len(text) for text in texts], TOKENS.get(batch.device.type, TOKENS_ELSEWHERE)):
                found.update(zip(chosen, self._pooled([texts[i] for i in chosen]), strict=True))
            rows = torch.stack([found[i] for i in range(len(texts))])
            return torch.nn.functional.normalize(rows, dim=1) if self._asked.norm else rows

    def _pooled(self, texts: Sequence[Tensor]) -> Tensor:
        # RoBERTa counts positions from tokens that are not padding, so padding must be the token it knows as such.
        padding = self.opened.config.pad_token_id or 0
        tokens = torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True, padding_value=padding)
        lengths = torch.tensor([len(text) for text in texts], device=tokens.device)
        inside = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        states: Tensor = self._loaded(input_ids=tokens, attention_mask=inside.long()).last_hidden_state
        if self._asked.pool == "cls":
            return states[:, 0]
        return states.masked_fill(~inside[..., None], 0).sum(1) / lengths[:, None]

    @property
    def _loaded(self) -> Any:
        if self._model is None:
            own = {"trust_remote_code": False, "local_files_only": True, "use_safetensors": True}
            own["output_loading_info"] = True
            with torch.random.fork_rng(devices=[]):  # Layers that the files lack are made from random numbers.
                model, info = made(transformers().AutoModel.from_pretrained, self.opened.folder, "model", own)
            # The pooler behind the first token is not used, and many encoders are published without it.
            lacking = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
            if lacking:
                raise RunFailed(
                    f"{self._asked.place} lacks {len(lacking)} weights of its encoder, such as {lacking[0]}"
                )
            self._model = model.float().eval().requires_grad_(False).to(self._device)
        return self._model


def split(variant: str) -> Asked:
    """The place of a model and the settings after it; BadSetting, UnknownName for what is none."""
    place, given = variant, dict[str, str]()
    while (parts := place.rpartition(":"))[1] and ("=" in parts[2] or parts[2] == "norm"):
        key, _, value = parts[2].partition("=")
        if key not in KEYS:
            raise UnknownName("setting of a text encoder", key, KEYS)
        given[key], place = value, parts[0]
    pool, context = given.get("pool", "mean"), given.get("context", "0")
    if not place:
        raise BadSetting("hf_encoder needs a model: write hf_encoder:FOLDER or OWNER/NAME of the hub")
    if pool not in POOLS:
        raise BadSetting(f"pool = {pool!r}; expected {' or '.join(POOLS)}")
    if given.get("norm"):
        raise BadSetting(f"norm = {given['norm']!r}; write :norm alone, or leave it out")
    if not (context.isascii() and context.isdigit()) or ("context" in given and int(context) == 0):
        raise BadSetting(f"context = {context!r}; expected a whole number of tokens above 0")
    return Asked(place, pool, int(context), "norm" in given)


def alike(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Places of texts that share a batch: at most a fifth is padding, and `room` tokens unless one text has more."""
    found: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[found[-1][0]] if found else 0
        if found and lengths[i] >= SHORTEST * longest and (len(found[-1]) + 1) * longest <= room:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def _context(config: Any, tokenizer: Any) -> int:
    positions = int(getattr(config, "max_position_embeddings", None) or 0)
    if positions and config.model_type in BEHIND_PADDING:
        positions -= int(config.pad_token_id or 0) + 1
    limits = [limit for limit in (positions, int(tokenizer.model_max_length)) if 0 < limit < NO_LIMIT]
    return min(limits, default=DEFAULT_CONTEXT)
