"""Judge by a text encoder of the library transformers, from a local folder: a head on its states, or all of it tuned.

`encoder:FOLDER` learns a calibrated logistic regression on the mean of the last hidden states over a text's tokens; the
encoder stays as it is. `encoder:FOLDER:layers=all` goes on from there and trains every layer, with a third of the texts
set aside to choose the epoch and to calibrate; its weights are then kept in the detector's own folder.

- It needs the extra: pip install 'evalkit[hf]'. Weights are read from safetensors only, computed with in float32, and
  code that comes with a model is never run.
- Of a text longer than the encoder's context, or than 512 tokens, the beginning is read.
- The tokenizer and the shape of the network come from FOLDER, which must still be there when the detector is loaded;
  the recipe covers the sha256 of its files, so another model in its place is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from evalkit.errors import BadSetting, BadSource, RunFailed, UnreadableSample
from evalkit.extractors._network import plain_float32
from evalkit.extractors.causal import hub
from evalkit.extractors.causal.instrument import packed, unpacked
from evalkit.extractors.identity import identity
from evalkit.types import SampleSet
from evalkit.weights import digest_of_file

from ._calibrate import platt
from ._fit import TrainingSet, balanced_weights, collect, grouped_folds, seeded
from ._judge import Judge
from ._linear import linear_tensors
from ._token_rows import BATCH, LEAST_CHARACTERS, text_of
from ._training import Lesson, Schedule, train

if TYPE_CHECKING:
    from evalkit.types import Media

C = 0.1
LONGEST = 512  # tokens
# Rates of fine-tuning usual for encoders (Devlin et al. 2019, appendix A.3); no epoch is chosen that is not better.
EPOCHS, BATCH_TUNED, RATE, DECAY, PATIENCE = 4, 16, 5e-5, 0.01, 2
ASIDE = 3
FILES = ("*.safetensors", "*.json", "*.txt", "*.model")
LINEAR = ("mean", "scale", "coefficients", "intercept")


class Pooled(nn.Module):
    """Log-odds [B] of padded token numbers [B, T], -1 behind a text: a linear head on the mean of the last states."""

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        log_odds: Tensor = self.head(self.states(tokens)).squeeze(1)
        return log_odds

    def states(self, tokens: Tensor) -> Tensor:
        """The mean of the last hidden states over the tokens, [B, width]; padding is not among them."""
        inside = tokens >= 0
        found = self.encoder(input_ids=tokens.clamp_min(0), attention_mask=inside.long()).last_hidden_state
        share = inside / inside.sum(1, keepdim=True)
        mean: Tensor = (found * share[..., None]).sum(1)
        return mean


class Encoder(Judge):
    """A head on a text encoder from a local folder (`encoder:FOLDER`), or all of it tuned (`:layers=all`)."""

    name = "encoder"
    modality: ClassVar[Literal["text"]] = "text"
    settings: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"C": C, "longest": LONGEST, "tuning": (EPOCHS, BATCH_TUNED, RATE, DECAY, PATIENCE, ASIDE)}
    )
    least_characters: ClassVar[int] = LEAST_CHARACTERS

    def __init__(self, variant: str = "") -> None:
        """variant: a folder, and `:layers=all` after it; nothing is opened before it is asked for."""
        super().__init__()
        if variant:
            vars(self).update(name=f"{self.name}:{variant}")
        place, found, layers = variant.rpartition(":layers=")
        if layers not in ("head", "all") and found:
            raise BadSetting(f"{self.name}: layers = {layers!r}; expected head or all")
        self._place, self._tunes = (place, layers == "all") if found else (variant, False)
        self._network: Pooled | None = None

    @cached_property
    def _folder(self) -> Path:
        folder = Path(self._place).expanduser()
        if not self._place or not folder.is_dir():
            raise BadSource(f"{self.name}: {self._place!r} is no folder; write encoder:FOLDER, a model of transformers")
        if not list(folder.glob("*.safetensors")):
            raise BadSetting(f"{self._place} holds no .safetensors; pickles are not read")
        return folder

    @cached_property
    def _tokenizer(self) -> Any:
        return self._made("AutoTokenizer", "tokenizer")

    @cached_property
    def _longest(self) -> int:
        config = self._made("AutoConfig", "configuration")
        context = getattr(config, "max_position_embeddings", LONGEST)
        # RoBERTa's positions begin behind the padding token's.
        offset = (config.pad_token_id or 0) + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        return min(LONGEST, int(context) - offset, int(min(self._tokenizer.model_max_length, LONGEST)))

    def _made(self, kind: str, part: str) -> Any:
        make = getattr(hub.transformers(), kind).from_pretrained
        own = {"use_safetensors": True} if kind == "AutoModel" else {}
        folder = str(self._folder)
        try:
            return make(folder, trust_remote_code=False, local_files_only=True, **own)
        except Exception as error:  # The file system and every model class raise classes of their own.
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise RunFailed(f"the {part} in {self._place} cannot be loaded ({lines[0][:200]})") from error

    @property
    def recipe(self) -> str:
        terms: dict[str, object] = {**self.settings, "layers": "all" if self._tunes else "head"}
        if self._place:
            paths = sorted(path for pattern in FILES for path in self._folder.glob(pattern))
            terms["files"] = {path.name: digest_of_file(path) for path in paths}
        return identity("encoder", self.version, terms)

    def prepare(self, sample: Media) -> Tensor:
        """int64 [T], the tokens with the tokenizer's own marks, up to the context; UnreadableSample where none are."""
        text = text_of(sample, self.name)
        found = self._tokenizer(text, truncation=True, max_length=self._longest)["input_ids"]
        if not found:
            raise UnreadableSample("the text has no token")
        return torch.tensor(found)

    def arrange(self, prepared: Sequence[Tensor]) -> Tensor:
        """One batch, int64 [1 + B + sum of lengths]: B, the B lengths, and the texts one after the other."""
        return packed(prepared)

    def to(self, device: str) -> None:
        if self._network is not None:
            self._network.to(device)
        super().to(device)

    def __call__(self, batch: Tensor) -> Tensor:
        t = self._fitted()
        states = self._states(self._whole(), unpacked(batch))
        log_odds = ((states - t["mean"]) / t["scale"]) @ t["coefficients"] + t["intercept"]
        return torch.sigmoid(log_odds)[:, None]

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Learn from at least ten samples a side; the seed sets folds, and the order and dropout of tuning."""
        data = collect(self.name, self.modality, self.prepare, real, fake)
        self._network, self._tensors = None, {}
        self.to(device)
        network = self._whole()
        states = self._states(network, data.prepared)
        tensors = linear_tensors(states.cpu(), data.is_fake, C, seed)
        if self._tunes:
            self._tune(network, tensors, data, seed, device)
            tensors = self._calibrated(network, data, seed)
            tensors |= {f"encoder.{key}": value for key, value in network.encoder.state_dict().items()}
        self._learn({k: v.detach().clone() for k, v in tensors.items()}, {"seed": seed}, data.words)

    def _whole(self) -> Pooled:
        """The encoder with its own weights, or with those that were learnt."""
        if self._network is None:
            with seeded(0, self._device):
                encoder = self._made("AutoModel", "encoder").float()
                network = Pooled(encoder, int(encoder.config.hidden_size))
            learnt = {k.removeprefix("encoder."): v for k, v in self._tensors.items() if k.startswith("encoder.")}
            if learnt:
                network.encoder.load_state_dict(learnt)
            self._network = network.to(self._device).eval()
        return self._network

    def _states(self, network: Pooled, texts: Sequence[Tensor]) -> Tensor:
        """Pooled states float32 [N, width] of prepared texts: like lengths share a batch."""
        network.eval()
        rows: dict[int, Tensor] = {}
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        with plain_float32(torch.device(self._device)):
            for start in range(0, len(order), BATCH):
                chosen = order[start : start + BATCH]
                found = network.states(_padded([texts[i] for i in chosen]).to(self._device))
                rows.update(zip(chosen, found, strict=True))
        return torch.stack([rows[i] for i in range(len(texts))])

    def _tune(self, network: Pooled, linear: Mapping[str, Tensor], data: TrainingSet, seed: int, device: str) -> None:
        """Train every layer, from the head that was found for the encoder as it is."""
        weight = linear["coefficients"] / linear["scale"]
        with torch.no_grad():
            network.head.weight.copy_(weight[None])
            network.head.bias.copy_(linear["intercept"] - weight @ linear["mean"])
        fold = torch.from_numpy(grouped_folds(data, ASIDE, seed))
        learnt, held = torch.nonzero(fold != 0).flatten(), torch.nonzero(fold == 0).flatten()
        truth = torch.from_numpy(data.is_fake).float().to(device)
        weights = torch.from_numpy(balanced_weights(data.is_fake)).float().to(device)
        lesson = Lesson(
            lambda index, epoch: _padded([data.prepared[i] for i in learnt[index].tolist()]).to(device),
            truth[learnt],
            weights[learnt],
            lambda tuned: (
                self._states(network, [data.prepared[i] for i in held.tolist()]) @ network.head.weight[0]
                + network.head.bias
            ),
            truth[held],
            weights[held],
        )
        with seeded(seed, device):
            train(network, lesson, Schedule(EPOCHS, BATCH_TUNED, RATE, DECAY, PATIENCE, half=False))
        network.eval().requires_grad_(False)

    def _calibrated(self, network: Pooled, data: TrainingSet, seed: int) -> dict[str, Tensor]:
        """The head of a tuned network as LINEAR, its calibration on the texts aside in it."""
        aside = grouped_folds(data, ASIDE, seed) == 0
        head, bias = network.head.weight[0].detach().cpu(), network.head.bias.detach().cpu()
        states = self._states(network, [p for p, held in zip(data.prepared, aside, strict=True) if held]).cpu()
        found = platt((states @ head + bias).double().numpy(), data.is_fake[aside])
        return {
            "mean": torch.zeros_like(head),
            "scale": torch.ones_like(head),
            "coefficients": head * found.slope,
            "intercept": bias * found.slope + found.offset,
        }

    def _ready(self) -> None:
        width = self._tensors["coefficients"].shape
        if any(self._tensors[key].shape != width for key in LINEAR[:3]) or self._tensors["intercept"].shape != (1,):
            raise ValueError("the head is no linear one")
        if self._tunes != any(key.startswith("encoder.") for key in self._tensors):
            raise ValueError("the weights of the encoder are missing, or are not asked for")
        if self._tunes:
            self._network = None
        if self._place and self._whole().head.weight.shape[1:] != width:
            raise ValueError("the head is of another width than the encoder")


def _padded(texts: Sequence[Tensor]) -> Tensor:
    """int64 [B, T] of texts [T_i], -1 behind each."""
    return torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True, padding_value=-1)
