"""What language models over byte-pair tokens share: their encoding, their training, more training, what is kept.

- A training text is one sequence between two end tokens, so beginning and length are learnt; longer ones continue in
  windows of `context` tokens. Batches hold texts of like length, so little is padding.
- Small sets overfit within a few passes: weight decay, and the averaged weights of the step that was best on the 5 %
  of the texts held out for it.
- Tuning goes on from the weights there are, with a fifth of the learning rate for at most half the steps, and stops
  when the held-out new texts do not become likelier. The encoding stays: what it cannot write is left out.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, TooFewSamples
from evalkit.types import Progress, SampleSet

from ._bpe import END, Bpe, learn
from ._family import Family
from ._texts import FEWEST, pack, read_texts, unpack
from ._training import Ema, LastGood, announced, count_parameters, descend, isolated

BATCH = 16
EMA_DECAY = 0.98
VALIDATION_SHARE = 0.05
VALIDATIONS = 20
TUNING_PACE, TUNING_STEPS = 0.2, 0.5
# Validations without a gain after which a tuning stops.
PATIENCE = 4


@dataclass(frozen=True)
class Course:
    """How long and how fast to train; patience: validations without a gain before it ends, 0 for never."""

    verb: str
    steps: int
    rate: float
    patience: int = 0


class TokenFamily(Family):
    """A family that keeps one network over byte-pair tokens of its training texts."""

    modality = "text"
    _bpe: Bpe
    _net: nn.Module
    # Tokens of the longest training text, both ends counted, as far as `context` lets it be seen.
    _longest: int
    _device: str = "cpu"
    # Digest of the set that was learnt before tuning; empty for a model that was never tuned.
    _tuned_from: str = ""
    # The encoding of the texts being learnt, before there is a network for it.
    _studied: tuple[Bpe, list[list[int]]]

    @property
    def _steps(self) -> int:
        """How many steps a training has."""
        return int(self._settings["steps"])

    def to(self, device: str) -> None:
        """Sample on `device` from now on."""
        self._net, self._device = self._net.to(device), device

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        texts = read_texts(samples, self.name)
        bpe = learn(texts, int(self._settings["vocabulary"]))
        sequences = [[END, *bpe.encode(t), END] for t in texts]
        self._studied = bpe, sequences
        course = Course("train", self._steps, float(self._settings["learning_rate"]))
        net = self._train(lambda: self._build(len(bpe)), sequences, course, seed, device, progress)
        self._become(bpe, net, sequences, device)
        return count_parameters(net)

    def _become(self, bpe: Bpe, net: nn.Module, sequences: Sequence[Sequence[int]], device: str) -> None:
        self._bpe, self._net, self._device, self._tuned_from = bpe, net.eval(), device, ""
        self._longest = min(max(map(len, sequences)), int(self._settings["context"]))

    def _salvage(self, state: dict[str, Tensor]) -> bool:
        bpe, sequences = self._studied
        net = self._build(len(bpe))
        net.load_state_dict(state)
        self._become(bpe, net, sequences, "cpu")
        return True

    def tune(self, samples: SampleSet, *, seed: int, device: str = "cpu", progress: Progress | None = None) -> None:
        """Train further on other texts with the same tokens; afterwards `trained_on` is their digest.

        The weights are those that were best on 5 % of the new texts, the present ones included. Raises BadSetting
        before `fit`, ModalityMismatch, TooFewSamples or BadSource for texts it cannot learn from, and RunFailed when
        training diverges; the generator is then as it was.
        """
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before tune")
        if samples.modality != self.modality:
            raise ModalityMismatch(f"{self.name} learns from texts, {samples.name!r} holds {samples.modality}s")
        sequences = self._readable(samples)
        rate = TUNING_PACE * float(self._settings["learning_rate"])
        course = Course("tune", math.ceil(TUNING_STEPS * self._steps), rate, PATIENCE)

        def present() -> nn.Module:
            return copy.deepcopy(self._net).requires_grad_(True).train()

        net = self._train(present, sequences, course, seed, device, progress)
        parent = self._trained_on
        self._become(self._bpe, net, sequences, device)
        self._trained_on, self._tuned_from = samples.digest, parent

    def _readable(self, samples: SampleSet) -> list[list[int]]:
        """Sequences of the texts of a set in the tokens there are; an error says how much of them is unknown."""
        texts = read_texts(samples, self.name)
        known = set(self._bpe.alphabet)
        sequences = [[END, *tokens, END] for tokens in (self._bpe.encode(t) for t in texts) if tokens]
        if len(sequences) >= FEWEST:
            return sequences
        everything = sum(map(len, texts))
        unknown = sum(c not in known for t in texts for c in t)
        found = f"{unknown} of the {everything} characters of {samples.name!r} are outside what {self.name} can write"
        if not sequences:
            raise BadSource(f"{found}, so nothing is left to tune on; train it on texts of this alphabet instead")
        raise TooFewSamples(f"{found}; {len(sequences)} texts are left, tuning needs at least {FEWEST}")

    def _train(
        self,
        start: Callable[[], nn.Module],
        sequences: list[list[int]],
        course: Course,
        seed: int,
        device: str,
        progress: Progress | None,
    ) -> nn.Module:
        steps, task = course.steps, f"{course.verb} {self.name}"
        with isolated(seed, device) as rng, announced(progress, task, steps) as advance:
            order = torch.randperm(len(sequences), generator=rng).tolist()
            held = max(1, round(VALIDATION_SHARE * len(sequences)))
            validation = self._windows([sequences[i] for i in order[:held]])
            training = self._windows([sequences[i] for i in order[held:]])
            net = start().to(device)
            ema, waited = Ema(net, EMA_DECAY), 0
            best, best_nats = kept(ema.net), self._held_out(ema.net, validation, device)
            good = LastGood(ema.net)
            adam = torch.optim.AdamW(net.parameters(), course.rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
            falling = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: pace(step, steps))
            # Every token weighs the same. A mean over each batch would give the tokens of short texts more weight than
            # those of long ones, and their ends with them: samples would end too soon.
            tokens_per_batch = BATCH * sum(len(s) - 1 for s in training) / len(training)
            batches: list[list[int]] = []
            for step in range(steps):
                batches = batches or like_lengths(training, rng)
                rows = [training[i] for i in batches.pop()]
                loss = self._nats(net, rows, device, rng) / tokens_per_batch
                descend(loss, adam, self.name, step, good)
                falling.step()
                ema.update(net)
                advance(1)
                if (step + 1) % max(1, steps // VALIDATIONS) == 0 or step + 1 == steps:
                    now = self._held_out(ema.net, validation, device)
                    waited = 0 if now < best_nats else waited + 1
                    if now < best_nats:
                        best, best_nats = kept(ema.net), now
                    if waited == course.patience > 0:
                        advance(steps - step - 1)
                        break
        ema.net.load_state_dict(best)
        return ema.net

    def _windows(self, sequences: Sequence[list[int]]) -> list[list[int]]:
        """Sequences of at most context + 1 tokens; each window starts with the token that the last one ended with."""
        c = int(self._settings["context"])
        return [s[i : i + c + 1] for s in sequences for i in range(0, len(s) - 1, c)]

    @torch.no_grad()
    def _held_out(self, net: nn.Module, sequences: list[list[int]], device: str) -> float:
        """What `_nats` says of all sequences a token, with the same chance each time."""
        rng = torch.Generator().manual_seed(0)
        batches = [sequences[i : i + BATCH] for i in range(0, len(sequences), BATCH)]
        total = sum(float(self._nats(net, batch, device, rng)) for batch in batches)
        return total / sum(len(s) - 1 for s in sequences)

    @abstractmethod
    def _build(self, vocabulary: int) -> nn.Module:
        """The network for so many tokens, with fresh weights."""

    @abstractmethod
    def _nats(self, net: nn.Module, sequences: list[list[int]], device: str, rng: torch.Generator) -> Tensor:
        """The training loss, in nats summed over every token of the sequences."""

    def _tensors(self) -> dict[str, Tensor]:
        merges = torch.tensor(self._bpe.merges, dtype=torch.int32).view(-1, 2)
        return {"alphabet": pack(self._bpe.alphabet), "merges": merges, **self._net.state_dict()}

    def _facts(self) -> dict[str, Any]:
        tuned = {"tuned_from": self._tuned_from} if self._tuned_from else {}
        return {"longest": self._longest, **tuned}

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        bpe = Bpe(unpack(tensors.pop("alphabet")), [(a, b) for a, b in tensors.pop("merges").tolist()])
        net = self._build(len(bpe))
        net.load_state_dict(tensors)
        longest, tuned_from = int(facts["longest"]), str(facts.get("tuned_from", ""))
        self._bpe, self._net, self._device = bpe, net.eval(), "cpu"
        self._longest, self._tuned_from = longest, tuned_from


def kept(net: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's weights as they are now."""
    return {k: v.clone() for k, v in net.state_dict().items()}


def pace(step: int, steps: int) -> float:
    """Share of the highest learning rate: up over the first twentieth, then down a cosine to a tenth."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def like_lengths(sequences: list[list[int]], rng: torch.Generator) -> list[list[int]]:
    """One pass over the sequences as batches of positions, in random order, each of sequences of like length."""
    # Jitter, so that the same texts do not always meet.
    jitter = torch.rand(len(sequences), generator=rng).tolist()
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]) * (1 + 0.1 * jitter[i]))
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    return [batches[i] for i in torch.randperm(len(batches), generator=rng).tolist()]
