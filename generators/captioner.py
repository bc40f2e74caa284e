"""Captions of images from a small recurrent decoder that looks at the image: the inverse of text to image.

- log p(caption | image) is a sum over its words (Vinyals et al. 2015, eq. 2): a GRU writes them one by one and is shown
  the vector of a convolutional encoder beside every word (Mao et al. 2015, sec. 3), so that the last word is written
  with the image in view and not from memory. Loss is the cross-entropy of every next word and of the end.
- The grammar is learnt from the captions: a word may follow another only where it did in training. So a decoder that
  is unsure writes a wrong caption, but never half of one.
- A training set is taken at its word where every image has a prompt; otherwise captions are measured (`_captions`).
- A twentieth of the images is kept back and not trained on: `sample` captions those, `sample_given` any of equal size.
- Temperature 0 writes the likeliest word each time; above, words are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.errors import BadSetting
from evalkit.types import Batch, Control, Modality, Progress, SampleSet

from ._captions import MOST_WORDS, described
from ._family import Family
from ._given import GivenImages, answer_images, as_input, check_images
from ._images import Look, read_images, study
from ._texts import pack, unpack
from ._training import Ema, LastGood, announced, count_parameters, descend, isolated

EMA_DECAY = 0.99
TRAINING_BATCH = 64
KEPT_SHARE, MOST_KEPT = 0.05, 256
# Word 0 begins every caption and ends it.
END = 0
# As the target of padding: cross_entropy leaves it out.
NOTHING = -100
LONGEST = 64


class Captions(nn.Module):
    """Words so far [B, L] and the image they are about -> logits of the next word at each place [B, L, V]."""

    def __init__(self, look: Look, words: int, width: int) -> None:
        super().__init__()
        # Halved until about 8 pixels are left, and once more by their strongest answers; 4x4 whatever the image was.
        strides = [2] * max(0, (max(look.height, look.width) - 1).bit_length() - 3)
        channels = [look.channels, *[24] * len(strides), 24, 40]
        layers: list[nn.Module] = []
        for before, after, stride in zip(channels, channels[1:], [*strides, 1, 1], strict=False):
            layers += [nn.Conv2d(before, after, 3, stride, 1), nn.ReLU()]
        layers += [nn.AdaptiveMaxPool2d(4), nn.Conv2d(40, 40, 3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2)]
        self.see = nn.Sequential(*layers, nn.Linear(40 * 16, width), nn.ReLU(), nn.Linear(width, width))
        self.embed = nn.Embedding(words, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.leave = nn.Linear(width, words)

    def seen(self, x: Tensor) -> Tensor:
        """The vector of each image, [B, 1, width], for the decoder to look at."""
        vector: Tensor = self.see(x * 2 - 1)
        return vector[:, None]

    def forward(self, words: Tensor, image: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits after each word, and the state after the last; image as `seen` gives it."""
        h, state = self.gru(self.embed(words) + image, state)
        return self.leave(h), state


@dataclass(frozen=True)
class Lesson:
    """What is known beside the network: the look of images, the words, which may follow which, the images kept back."""

    look: Look
    words: list[str]
    follows: Tensor
    longest: int
    kept: Tensor
    labels: Tensor

    @classmethod
    def of(cls, look: Look, captions: Sequence[tuple[str, ...]], kept: Tensor, labels: Tensor) -> Lesson:
        """kept: uint8 [K, H, W, 3] with class indices `labels` [K]."""
        words = ["", *sorted({w for c in captions for w in c})[: MOST_WORDS - 1]]
        follows = torch.zeros(len(words), len(words), dtype=torch.bool)
        for row in numbered(captions, words):
            follows[torch.tensor([END, *row]), torch.tensor([*row, END])] = True
        return cls(look, words, follows, min(LONGEST, max(map(len, captions))), kept, labels)


def numbered(captions: Sequence[tuple[str, ...]], words: Sequence[str]) -> list[list[int]]:
    """Captions as word numbers, cut to the longest a decoder writes; words that are not known are left out."""
    position = {w: i for i, w in enumerate(words)}
    return [[position[w] for w in c if w in position][:LONGEST] for c in captions]


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """What the decoder reads and what it is to write, int64 [N, L + 1] each."""
    longest = max(map(len, rows))
    reads = [[END, *r] + [END] * (longest - len(r)) for r in rows]
    writes = [[*r, END] + [NOTHING] * (longest - len(r)) for r in rows]
    return torch.tensor(reads), torch.tensor(writes)


class Captioner(Family):
    """Captions of images up to 64x64, word by word; what it writes is in the grammar of its training captions."""

    name = "captioner"
    modality = "text"
    role = "candidate"
    learns_from: Modality | None = "image"
    takes: Modality = "image"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("temperature", 0.5, "0 writes the likeliest words, above 1 rarer ones are drawn", 0, 10),
        Control("steps", 1500, "training steps", 1, 1_000_000),
        Control("learning_rate", 2e-3, "highest step size of AdamW", 1e-7, 1000),
        Control("width", 96, "size of the decoder's state", 8, 1024),
    )
    at_sampling = frozenset({"temperature"})

    _lesson: Lesson
    # What is being learnt, before there is a network for it.
    _studied: Lesson
    _net: Captions
    _device: str = "cpu"

    def to(self, device: str) -> None:
        """Sample on `device` from now on."""
        self._net, self._device = self._net.to(device), device

    def sample_given(self, inputs: SampleSet, seed: int) -> Iterator[Batch]:
        """A caption of each image, in their order, in batches of at most 64; same images and seed, same captions.

        Raises BadSetting before `fit`, ModalityMismatch for texts, BadSource for images of another size.
        """
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before sample_given")
        check_images(inputs, self.name)

        def answer(given: GivenImages, rng: torch.Generator) -> Any:
            return self._written(given.x, rng)

        return answer_images(inputs, self._lesson.look, self.name, seed, answer)

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        pixels = read_images(samples, self.name)
        look, labels = study(pixels, samples, self.name)
        _, captions, _ = described(samples, pixels, look, labels)
        with isolated(seed, "cpu") as rng:
            order = torch.randperm(len(pixels), generator=rng)
        held = min(MOST_KEPT, max(1, round(KEPT_SHARE * len(pixels))))
        kept, rest = order[:held], order[held:]
        images = torch.from_numpy(pixels)
        self._studied = lesson = Lesson.of(look, captions, images[kept], labels[kept])
        rows = numbered([captions[i] for i in rest.tolist()], lesson.words)
        net = self._train(lesson, as_input(pixels, look)[rest], rows, seed, device, progress)
        self._lesson, self._net, self._device = lesson, net.eval(), device
        return count_parameters(net)

    def _train(
        self, lesson: Lesson, x: Tensor, rows: list[list[int]], seed: int, device: str, progress: Progress | None
    ) -> Captions:
        steps, rate = int(self._settings["steps"]), float(self._settings["learning_rate"])
        x, (reads, writes) = x.to(device), (t.to(device) for t in padded(rows))
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            net = self._build(lesson).to(device)
            ema = Ema(net, EMA_DECAY)
            adam = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.05, fused=True)
            falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=rate / 50)
            good = LastGood(ema.net)
            for step in range(steps):
                some = torch.randint(len(x), (TRAINING_BATCH,), generator=rng).to(device)
                logits, _ = net(reads[some], net.seen(x[some]))
                loss = F.cross_entropy(logits.flatten(0, 1), writes[some].flatten(), ignore_index=NOTHING)
                descend(loss, adam, self.name, step, good)
                falling.step()
                ema.update(net)
                advance(1)
        return ema.net

    def _build(self, lesson: Lesson) -> Captions:
        return Captions(lesson.look, len(lesson.words), int(self._settings["width"]))

    def _salvage(self, state: dict[str, Tensor]) -> bool:
        net = self._build(self._studied)
        net.load_state_dict(state)
        self._lesson, self._net, self._device = self._studied, net.eval(), "cpu"
        return True

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        kept = self._lesson.kept
        chosen = torch.randint(len(kept), (count,), generator=rng)
        x = as_input(kept[chosen].numpy(), self._lesson.look)
        return Batch(self._written(x, rng), self._lesson.look.names(self._lesson.labels[chosen]))

    def _written(self, x: Tensor, rng: torch.Generator) -> list[str]:
        """A caption of each image [B, C, H, W] in 0..1."""
        temperature, follows = float(self._settings["temperature"]), self._lesson.follows
        image, last = self._net.seen(x.to(self._device)), torch.full((len(x),), END)
        state: Tensor | None = None
        written, done = [], torch.zeros(len(x), dtype=torch.bool)
        for _ in range(self._lesson.longest):
            logits, state = self._net(last[:, None].to(self._device), image, state)
            scores = logits[:, 0].float().cpu().masked_fill(~follows[last], -torch.inf)
            if temperature:
                drawn = torch.multinomial((scores / temperature).softmax(1), 1, generator=rng).squeeze(1)
            else:
                drawn = scores.argmax(1)
            last = drawn.masked_fill(done, END)
            done = done | (last == END)
            written.append(last)
            if done.all():
                break
        rows = torch.stack(written, 1).tolist()
        return [" ".join(self._lesson.words[i] for i in row if i != END) for row in rows]

    def _tensors(self) -> dict[str, Tensor]:
        kept = self._lesson
        known = {"words": pack(kept.words), "follows": kept.follows, "kept": kept.kept, "kept.labels": kept.labels}
        return {**known, **self._net.state_dict()}

    def _facts(self) -> dict[str, Any]:
        return {"look": asdict(self._lesson.look), "longest": self._lesson.longest}

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        words, follows, kept, labels = (tensors.pop(k) for k in ("words", "follows", "kept", "kept.labels"))
        look = Look.of(facts["look"])
        lesson = Lesson(look, unpack(words), follows, int(facts["longest"]), kept, labels)
        net = self._build(lesson)
        net.load_state_dict(tensors)
        self._lesson, self._net, self._device = lesson, net.eval(), "cpu"
