"""How likely a text is toxic to a text classifier of the library transformers, from a local folder.

`hf_classifier:FOLDER`, and `hf_classifier:FOLDER:label=NAME` where no label or several speak of toxicity.

- Needs the extra: pip install 'evalkit[hf]'. Weights are read from safetensors only and computed with in float32; code
  that comes with a model is never run; nothing is downloaded.
- The probability is the label's share of a softmax, or its sigmoid where the configuration says that labels do not
  exclude each other (problem_type multi_label_classification) or there is one label alone.
- A text longer than the model reads is cut into windows of whole size, and its probability is the highest of theirs:
  one toxic sentence at the end of a long text counts.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from ..errors import BadSetting, BadSource, ModalityMismatch, RunFailed, UnreadableSample
from ._network import plain_float32
from .causal.hub import check_tokenizer
from .identity import identity

if TYPE_CHECKING:
    from ..types import Media

PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model")
DEFAULT_CONTEXT = 512
NO_LIMIT = 1 << 30  # a tokenizer that knows of no limit says 1e30
NOTHING = -1  # of padding
VERSION = 1


class Opened(NamedTuple):
    """A folder that was checked: sha256 by file, its tokenizer, which label is read and how, tokens read at once."""

    files: Mapping[str, str]
    tokenizer: Any
    label: int
    name: str
    is_alone: bool
    context: int


class HubClassifier:
    """Probability that a text is toxic under a transformers text classifier: `hf_classifier:FOLDER`."""

    name = "hf_classifier"
    modality: Literal["text"] = "text"

    def __init__(self, variant: str = "") -> None:
        """variant: the folder, and `:label=NAME` after it; nothing is opened before `fetch`."""
        self.name = f"hf_classifier:{variant}" if variant else "hf_classifier"
        place, _, label = variant.partition(":label=")
        self._place, self._label = place, label
        self._device, self._model = "cpu", cast("Any", None)

    @cached_property
    def opened(self) -> Opened:
        """The folder's files and labels; BadSetting or RunFailed, one line, when they are not what they should be."""
        if not self._place:
            raise BadSetting("hf_classifier needs a model: write hf_classifier:FOLDER of a text classifier")
        folder = Path(self._place).expanduser()
        if not folder.is_dir():
            raise BadSource(f"{self._place!r} is no folder; hf_classifier reads local folders only")
        if not list(folder.glob("*.safetensors")):
            raise BadSetting(f"{self._place} holds no .safetensors; pickles are not read")
        library = _library()
        check_tokenizer(folder)
        tokenizer = _made(library.AutoTokenizer, folder)
        if not tokenizer.is_fast:
            raise BadSetting(
                f"{self._place} has no fast tokenizer (tokenizer.json), which cuts long texts into windows"
            )
        config = _made(library.AutoConfig, folder)
        label, name = _chosen({int(k): str(v) for k, v in config.id2label.items()}, self._label, self._place)
        is_alone = config.problem_type == "multi_label_classification" or len(config.id2label) == 1
        limits = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", DEFAULT_CONTEXT)]
        context = min(limit for limit in (*limits, NO_LIMIT) if limit)
        files = sorted(path for pattern in PATTERNS for path in folder.glob(pattern))
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        # Positions of some models begin behind the padding token.
        spare = 2 if str(config.model_type) in ("roberta", "xlm-roberta", "camembert") else 0
        found = int(context if context < NO_LIMIT else DEFAULT_CONTEXT) - spare
        return Opened(digests, tokenizer, label, name, is_alone, found)

    @property
    def digest(self) -> str:
        terms = {"files": dict(self.opened.files), "label": self.opened.name, "alone": self.opened.is_alone}
        return identity("hf_classifier", VERSION, {**terms, "windows": "highest", "context": self.opened.context})

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"p_toxic": slice(0, 1)})

    @property
    def about(self) -> Mapping[str, str]:
        return MappingProxyType(
            {
                "label": self.opened.name,
                "probability": "sigmoid of the label" if self.opened.is_alone else "softmax over the labels",
                "context": f"{self.opened.context} tokens, of several windows the highest",
                **{f"sha256 of {name}": sha256 for name, sha256 in self.opened.files.items()},
            }
        )

    def fetch(self) -> None:
        """Have the folder checked; raises BadSetting or RunFailed, one line."""
        _ = self.opened

    def prepare(self, sample: Media) -> Tensor:
        """int64 [windows, tokens], -1 at padding; UnreadableSample when the text has no token."""
        if not isinstance(sample, str):
            raise ModalityMismatch(f"{self.name} reads texts and was given an image")
        tokenizer, context = self.opened.tokenizer, self.opened.context
        ids: list[int] = tokenizer(sample, add_special_tokens=False, verbose=False)["input_ids"]
        if not ids:
            raise UnreadableSample(f"the text is empty to {self.name}")
        room = context - tokenizer.num_special_tokens_to_add()
        if room < 1:
            raise BadSetting(f"{self._place} reads {context} tokens at once, its own marks take all of them")
        cut = tokenizer([sample], truncation=True, max_length=context, return_overflowing_tokens=True)["input_ids"]
        windows = [torch.tensor(window) for window in cut]
        return torch.nn.utils.rnn.pad_sequence(windows, batch_first=True, padding_value=NOTHING)

    def arrange(self, prepared: Sequence[Tensor]) -> Tensor:
        """One batch int64 [B, windows, tokens], -1 at padding."""
        most, longest = (max(text.shape[axis] for text in prepared) for axis in (0, 1))
        batch = prepared[0].new_full((len(prepared), most, longest), NOTHING)
        for row, text in zip(batch, prepared, strict=True):
            row[: text.shape[0], : text.shape[1]] = text
        return batch

    def to(self, device: str) -> None:
        self._device = device
        if self._model is not None:
            self._model.to(device)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        """Rows [B, 1]: the highest probability of a text's windows, in [0, 1]."""
        windows = batch.flatten(0, 1)
        there = windows[:, 0] != NOTHING
        found = batch.new_zeros(len(windows), dtype=torch.float32)
        with plain_float32(batch.device):
            found[there] = self._probabilities(windows[there])
        return found.reshape(batch.shape[:2]).amax(1, keepdim=True)

    def _probabilities(self, windows: Tensor) -> Tensor:
        """The label's probability [W] of windows [W, S]."""
        mask = windows != NOTHING
        pad = self.opened.tokenizer.pad_token_id or 0
        logits = self._ready()(input_ids=windows.masked_fill(~mask, pad), attention_mask=mask.long()).logits.float()
        shares: Tensor = logits.sigmoid() if self.opened.is_alone else logits.softmax(-1)
        return shares[:, self.opened.label]

    def _ready(self) -> Any:
        if self._model is None:
            model = _made(_library().AutoModelForSequenceClassification, Path(self._place).expanduser(), weights=True)
            self._model = model.float().eval().requires_grad_(False).to(self._device)
        return self._model


def _chosen(labels: Mapping[int, str], wanted: str, place: str) -> tuple[int, str]:
    """Number and name of the label that is read; BadSetting, naming all, where it is not clear which."""
    if wanted:
        fitting = [number for number, name in labels.items() if name.lower() == wanted.lower()]
    else:
        fitting = [n for n, name in labels.items() if name.lower() in ("toxic", "toxicity")]
    if len(fitting) != 1:
        raise BadSetting(
            f"{place} has the labels {', '.join(labels.values())}; say which means toxic:"
            " hf_classifier:FOLDER:label=NAME"
        )
    return fitting[0], labels[fitting[0]]


def _made(kind: Any, folder: Path, *, weights: bool = False) -> Any:
    only: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        return kind.from_pretrained(str(folder), **only, **({"use_safetensors": True} if weights else {}))
    except Exception as error:  # The file system and every model class raise classes of their own.
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadSetting(f"transformers cannot load {str(folder)!r} ({why})") from error


def _library() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise RunFailed(f"transformers is not installed ({error}); pip install 'evalkit[hf]'") from error
