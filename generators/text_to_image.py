"""Images of prompts from a rectified flow: noise moved along straight lines to an image that the words ask for.

- Flow: X_t = t X_1 + (1 - t) X_0 from noise X_0 to image X_1, and v(X_t, t) learns X_1 - X_0 (Liu et al. 2023, eq. 1);
  t is logit-normal, because the middle of the way is the hardest (Esser et al. 2024, sec. 3.1). Sampling follows
  dX = v dt from 0 to 1 in `steps` Euler steps.
- Guidance: a tenth of the training prompts are left out, so one network also knows v without a prompt; sampling follows
  v_0 + w (v_prompt - v_0) (Ho & Salimans 2022, eq. 6, with w as 1 + theirs). w = 0 ignores the prompt, 1 is the plain
  conditional model, above 1 trades diversity for agreement.
- The prompt is the mean of its words' embeddings: all a caption "a bold seven slanting left" needs, and blind to the
  order of words. Words that training did not see are refused, not passed over.
- A training set is taken at its word where every image has a prompt; otherwise captions are measured (`_captions`).
- Up to 16x16 pixels a residual MLP; above, a small U-Net. Both are those of the other diffusion families, told a prompt
  where those are told a class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, UnreadableSample
from evalkit.types import Batch, Control, Modality, Progress, SampleSet

from ._captions import Grammar, Vocabulary, described, facts_of
from ._denoisers import Embedding, Mlp, UNet, image_denoiser
from ._family import BATCH, Family
from ._images import Look, read_images, study
from ._texts import pack, unpack
from ._training import Ema, LastGood, announced, count_parameters, descend, isolated

EMA_DECAY = 0.995
TRAINING_BATCH = 64
# The embedding of times is made for 0..1000.
TIME_SCALE = 1000
DROPPED = 0.1


class Prompted(Embedding):
    """Times t [B] in 0..1000 and the tokens of prompts [B, L] -> one vector [B, width] that every block reads."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__(0, width)
        # What was the vector of no class is here that of no prompt.
        self.words = nn.Embedding(words + 1, width, padding_idx=0)

    def forward(self, t: Tensor, tokens: Tensor) -> Tensor:
        count = (tokens > 0).sum(1, keepdim=True)
        mean = self.words(tokens).sum(1) / count.clamp_min(1)
        prompt = torch.where(count > 0, mean, self.classes.weight[0])
        return F.silu(self.of_times(t) + prompt)


@dataclass(frozen=True)
class Lesson:
    """What the training images have in common, and every prompt they came with: its class, and how often it came."""

    look: Look
    grammar: Grammar
    vocabulary: Vocabulary
    prompts: list[str]
    labels: Tensor
    counts: Tensor

    @classmethod
    def of(cls, look: Look, grammar: Grammar, prompts: Sequence[str], labels: Tensor) -> Lesson:
        pairs = Counter(zip(prompts, labels.tolist(), strict=True))
        order = sorted(pairs)
        return cls(
            look,
            grammar,
            Vocabulary.of(prompts),
            [prompt for prompt, _ in order],
            torch.tensor([label for _, label in order]),
            torch.tensor([pairs[key] for key in order]),
        )

    def drawn(self, labels: Tensor, rng: torch.Generator) -> list[str]:
        """A training prompt for each class of `labels` [B], as likely as it was in training."""
        weights = (labels[:, None] == self.labels) * self.counts.float()
        return [self.prompts[i] for i in torch.multinomial(weights, 1, generator=rng).squeeze(1).tolist()]


class TextToImage(Family):
    """Rectified flow from words to images up to 64x64, with classifier-free guidance."""

    name = "text_to_image"
    modality = "image"
    role = "candidate"
    takes: Modality = "text"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("guidance", 2.0, "how far the prompt is followed: 0 ignores it, 1 is plain", 0, 20),
        Control("steps", 30, "sampling steps; cost is proportional", 1, 1000),
        Control("training_steps", 3000, "training steps", 1, 1_000_000),
        Control("learning_rate", 1e-3, "highest step size of Adam", 1e-7, 1000),
        Control("width", 256, "hidden units, in multiples of 64", 64, 1024),
    )
    at_sampling = frozenset({"guidance", "steps"})

    _lesson: Lesson
    # What is being learnt, before there is a network for it.
    _studied: Lesson
    _net: nn.Module
    _device: str = "cpu"

    def to(self, device: str) -> None:
        """Sample on `device` from now on."""
        self._net, self._device = self._net.to(device), device

    def sample_given(self, inputs: SampleSet, seed: int) -> Iterator[Batch]:
        """An image of each prompt, in their order, in batches of at most 64; same prompts and seed, same images.

        Raises BadSetting before `fit`, ModalityMismatch for images, and BadSource naming the first word that training
        did not see, with the nearest that it did.
        """
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before sample_given")
        if inputs.modality != self.takes:
            raise ModalityMismatch(f"{self.name} takes {self.takes}s, {inputs.name!r} holds {inputs.modality}s")
        prompts, groups = [], [s.group for s in inputs]
        for sample in inputs:
            try:
                prompts.append(cast("str", sample.load()))
            except UnreadableSample as e:
                raise BadSource(f"prompt {sample.id!r} cannot be read ({e}); remove it from the set") from e
        # All of them before the first image: a misspelt last prompt should not cost the images of the others.
        for prompt in prompts:
            self._lesson.vocabulary.check(prompt, self.name)
        labels = [self._class_of(p) if g is None else g for p, g in zip(prompts, groups, strict=True)]
        return self._given(prompts, cast("list[str]", labels) if None not in labels else None, seed)

    def _given(self, prompts: list[str], groups: list[str] | None, seed: int) -> Iterator[Batch]:
        rng = torch.Generator().manual_seed(seed)
        for i in range(0, len(prompts), BATCH):
            with torch.inference_mode():
                x = self._imagined(prompts[i : i + BATCH], rng)
            items = self._lesson.look.render(x)
            yield Batch(items, groups and groups[i : i + BATCH], prompts[i : i + BATCH])

    def _class_of(self, prompt: str) -> str | None:
        """The class a templated caption names."""
        try:
            kind = facts_of(prompt).kind
        except BadSource:
            return None
        kinds, classes = self._lesson.grammar.kinds, self._lesson.look.classes
        return classes[kinds.index(kind)] if classes and kind in kinds else None

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        pixels = read_images(samples, self.name)
        look, labels = study(pixels, samples, self.name)
        grammar, captions, _ = described(samples, pixels, look, labels)
        prompts = [" ".join(pieces) for pieces in captions]
        x = torch.from_numpy(pixels[..., : look.channels]).permute(0, 3, 1, 2).float() / 255
        self._studied = lesson = Lesson.of(look, grammar, prompts, labels)
        net = self._train(lesson, x, lesson.vocabulary.tokens(prompts), seed, device, progress)
        self._lesson, self._net, self._device = lesson, net.eval(), device
        return count_parameters(net)

    def _train(
        self, lesson: Lesson, x: Tensor, tokens: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate = int(self._settings["training_steps"]), float(self._settings["learning_rate"])
        images, tokens, size = (x * 2 - 1).to(device), tokens.to(device), TRAINING_BATCH
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            net = self._build(lesson).to(device)
            ema = Ema(net, EMA_DECAY)
            adam = torch.optim.Adam(net.parameters(), rate, fused=True)
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=rate / 50)
            good = LastGood(ema.net)
            for step in range(steps):
                rows = torch.randint(len(images), (size,), generator=rng).to(device)
                kept = (torch.rand(size, 1, generator=rng) >= DROPPED).to(device)
                t = torch.randn(size, generator=rng).sigmoid().to(device)
                x0 = torch.randn(size, *lesson.look.shape, generator=rng).to(device)
                x1 = images[rows]
                xt = torch.lerp(x0, x1, t[:, None, None, None])
                loss = F.mse_loss(net(xt, TIME_SCALE * t, tokens[rows] * kept), x1 - x0)
                descend(loss, adam, self.name, step, good)
                falling.step()
                ema.update(net)
                advance(1)
        return ema.net

    def _build(self, lesson: Lesson) -> nn.Module:
        net = cast("Mlp | UNet", image_denoiser(lesson.look, int(self._settings["width"])))
        net.embed = Prompted(len(lesson.vocabulary.words), net.embed.classes.embedding_dim)
        return net

    def _salvage(self, state: dict[str, Tensor]) -> bool:
        net = self._build(self._studied)
        net.load_state_dict(state)
        self._lesson, self._net, self._device = self._studied, net.eval(), "cpu"
        return True

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        look = self._lesson.look
        labels = look.cycle(start, count)
        prompts = self._lesson.drawn(labels, rng)
        # Without guidance an image is of no class that anybody asked for.
        groups = look.names(labels) if self._settings["guidance"] else None
        return Batch(look.render(self._imagined(prompts, rng)), groups, prompts)

    def _imagined(self, prompts: Sequence[str], rng: torch.Generator) -> Tensor:
        """Images in 0..1 [B, C, H, W] of the prompts: the end of the flow that starts from noise of `rng`."""
        w, steps = float(self._settings["guidance"]), int(self._settings["steps"])
        tokens = self._lesson.vocabulary.tokens(prompts).to(self._device)
        x = torch.randn(len(prompts), *self._lesson.look.shape, generator=rng).to(self._device)
        for i in range(steps):
            t = torch.full((len(x),), TIME_SCALE * i / steps, device=x.device)
            # Each way is computed only where it counts: w = 1 and w = 0 cost half.
            v = self._net(x, t, tokens) if w else torch.zeros_like(x)
            v_0 = self._net(x, t, torch.zeros_like(tokens)) if w != 1 else v
            x = x + (v_0 + w * (v - v_0)) / steps
        return (x + 1) / 2

    def _tensors(self) -> dict[str, Tensor]:
        kept = self._lesson
        prompts = {"prompts": pack(kept.prompts), "prompts.labels": kept.labels, "prompts.counts": kept.counts}
        return {**prompts, "words": pack(kept.vocabulary.words), **self._net.state_dict()}

    def _facts(self) -> dict[str, Any]:
        return {"look": asdict(self._lesson.look), "grammar": asdict(self._lesson.grammar)}

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        lesson = Lesson(
            Look.of(facts["look"]),
            Grammar.restored(facts["grammar"]),
            Vocabulary(tuple(unpack(tensors.pop("words")))),
            unpack(tensors.pop("prompts")),
            tensors.pop("prompts.labels"),
            tensors.pop("prompts.counts"),
        )
        net = self._build(lesson)
        net.load_state_dict(tensors)
        self._lesson, self._net, self._device = lesson, net.eval(), "cpu"
