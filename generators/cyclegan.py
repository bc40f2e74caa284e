"""Images translated from one domain to another by a CycleGAN: two translators learnt without a single pair.

- G: A -> B and F: B -> A, each with a judge of the domain it paints for: D_B and D_A (Zhu et al. 2017, fig. 3). The
  judges' loss is the squared error of LSGAN (sec. 4), on a map of patches.
- Cycle consistency: lambda (|F(G(a)) - a| + |G(F(b)) - b|), lambda = 10 (eq. 2 and 3). The identity term |G(b) - b| +
  |F(a) - a| (sec. 5.2) is there for paintings and off by default.
- *Which domains.* Training images of exactly two groups are the two domains, the first by name is A. Otherwise every
  second image of each class is A, and the others, made bold by `bold`, are B: nobody is shown a pair, but the truth of
  every translation is known and can be scored. A small cycle loss is no such evidence: a pair of translators may agree
  perfectly on a wrong map.
- Nets of 3x3 convolutions with instance norm: one halving below 16 pixels, two above; residual blocks; enlarging by
  nearest and convolving, against checkerboards. Learning rate falling to zero in the second half (sec. 4).
- A quarter of each domain, at most 128 images, is kept back: `sample` translates those. An average of the weights is
  used for it. The paper's history of fakes for the judges is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, TooFewSamples, UnreadableSample
from evalkit.types import Batch, Control, Modality, Progress, Sample, SampleSet

from ._family import BATCH as AT_ONCE
from ._images import ImageFamily, Look
from ._training import Ema, LastGood, announced, descend, isolated

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BATCH = 16
EMA_DECAY = 0.99
BLOCKS = 1
# Of each domain: the fewest images, and the most that are kept back for sampling.
FEWEST = 4
MOST_KEPT = 128


@dataclass(frozen=True, eq=False)
class Domain:
    """Images in 0..1 [N, C, H, W] of one domain and the class index of each [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def at(self, rows: Tensor) -> Domain:
        return Domain(self.images[rows], self.labels[rows])


def bold(x: Tensor) -> Tensor:
    """Images in 0..1 [..., H, W] with bright strokes one pixel wider: the maximum of 2x2 pixels, above 16 px of 3x3."""
    k = 2 if max(x.shape[-2:]) <= 16 else 3
    # Black around the image never is the maximum; the 2x2 window looks up and left, so strokes grow down and right.
    return F.max_pool2d(F.pad(x, (1, k - 2, 1, k - 2)), k, stride=1)


def two_domains(look: Look, x: Tensor, labels: Tensor, samples: str, family: str) -> tuple[Domain, Domain]:
    """Domains A and B of images x in 0..1 with class indices; raises TooFewSamples."""
    if len(look.classes) == 2:
        a, b = ((labels == k).nonzero().squeeze(1) for k in (0, 1))
        A, B = Domain(x, labels).at(a), Domain(x, labels).at(b)
    else:
        # Every second image within its class: sets sorted so that classes alternate must not part by class.
        order = labels.argsort(stable=True)
        A, B = Domain(x, labels).at(order[0::2]), Domain(bold(x), labels).at(order[1::2])
    if min(len(A), len(B)) < FEWEST:
        raise TooFewSamples(
            f"{family} needs at least {FEWEST} training images of each domain, {samples!r} has {len(A)} and {len(B)}"
        )
    return A, B


def fill(look: Look, times: int) -> tuple[int, int, int, int]:
    """What `F.pad` adds right and below, so that `times` halvings lose nothing and leave 2x2 pixels or more."""
    step = 2**times
    height, width = (max(2 * step, -(-side // step) * step) for side in (look.height, look.width))
    return 0, width - look.width, 0, height - look.height


def halvings(look: Look) -> int:
    return 1 if max(look.height, look.width) < 16 else 2


def normed(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride, 1), nn.InstanceNorm2d(after, affine=True), nn.ReLU()]


class Block(nn.Module):
    """Two convolutions with a residual path; what is learnt is what changes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*normed(width, width), *normed(width, width)[:-1])

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.body(h)
        return out


class Translator(nn.Module):
    """Image in -1..1 [B, C, H, W] of one domain -> its like in the other."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        _, self.height, self.width = look.shape
        times = halvings(look)
        self.fill = fill(look, times)
        down, up = normed(look.channels, width), [nn.Conv2d(width, look.channels, 3, 1, 1), nn.Tanh()]
        for _ in range(times):
            down += normed(width, 2 * width, 2)
            up = [nn.Upsample(scale_factor=2.0), *normed(2 * width, width), *up]
            width *= 2
        self.body = nn.Sequential(*down, *(Block(width) for _ in range(BLOCKS)), *up)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(F.pad(x, self.fill, mode="replicate"))
        return out[:, :, : self.height, : self.width]


class Translators(nn.Module):
    """Both directions."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        self.a_to_b, self.b_to_a = Translator(look, width), Translator(look, width)


class Judge(nn.Module):
    """D(x): image in -1..1 [B, C, H, W] -> near 1 where a patch is of the domain, near 0 where not, [B, 1, h, w]."""

    def __init__(self, look: Look, width: int) -> None:
        super().__init__()
        times = halvings(look)
        self.fill = fill(look, times)
        layers: list[nn.Module] = [nn.Conv2d(look.channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for stride in (2,) * (times - 1) + (1,):
            layers += [*normed(width, 2 * width, stride)[:-1], nn.LeakyReLU(0.2)]
            width *= 2
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(F.pad(x, self.fill, mode="replicate"))
        return out


def judged(logits: Tensor, is_real: bool) -> Tensor:
    """LSGAN: squared distance from the answer."""
    return F.mse_loss(logits, torch.full_like(logits, float(is_real)))


def told_apart(D: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """The loss of a judge; in one batch, which instance norm does not mix."""
    seen = D(torch.cat([real, fake]))
    return judged(seen[: len(real)], True) + judged(seen[len(real) :], False)


class CycleGan(ImageFamily):
    """Unpaired translation between two domains of images up to 64x64."""

    name = "cyclegan"
    modality = "image"
    role = "candidate"
    takes: Modality = "image"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("direction", "a_to_b", "which domain is translated to which", choices=("a_to_b", "b_to_a")),
        Control("steps", 1000, "training steps", 1, 1_000_000),
        Control("learning_rate", 2e-3, "highest step size of Adam for all networks", 1e-7, 1000),
        Control("width", 16, "channels where the image is largest", 4, 256),
        Control("cycle", 10.0, "lambda, weight of cycle consistency", 0, 1000),
        Control("identity", 0.0, "weight of the identity term, in units of lambda", 0, 10),
    )
    at_sampling = frozenset({"direction"})

    # Images kept back from training, of A and of B; those of a training that is under way.
    _kept: tuple[Domain, Domain]
    _set_aside: tuple[Domain, Domain]
    _samples: str = ""

    def _learn(self, samples: SampleSet, seed: int, device: str, progress: Progress | None) -> int:
        self._samples = samples.name
        parameters = super()._learn(samples, seed, device, progress)
        self._kept = self._set_aside
        return parameters

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        steps, rate = int(self._settings["steps"]), float(self._settings["learning_rate"])
        domains = two_domains(look, x, labels, self._samples, self.name)
        with isolated(seed, device) as rng, announced(progress, f"train {self.name}", steps) as advance:
            orders = [torch.randperm(len(domain), generator=rng) for domain in domains]
            kept = [min(MOST_KEPT, len(domain) // 4) for domain in domains]
            A, B = (d.at(o[k:]).images.to(device) * 2 - 1 for d, o, k in zip(domains, orders, kept, strict=True))
            first, second = (d.at(o[:k]) for d, o, k in zip(domains, orders, kept, strict=True))
            self._set_aside = first, second
            net = self._build(look).to(device)
            # D_A and D_B.
            judges = nn.ModuleList(Judge(look, int(self._settings["width"])) for _ in domains).to(device)
            ema = Ema(net, EMA_DECAY)
            adam = torch.optim.Adam(net.parameters(), rate, betas=(0.5, 0.999), fused=True)
            D_adam = torch.optim.Adam(judges.parameters(), rate, betas=(0.5, 0.999), fused=True)
            falling = [
                torch.optim.lr_scheduler.LambdaLR(o, lambda step: min(1.0, 2 * (1 - step / steps)))
                for o in (adam, D_adam)
            ]
            good = LastGood(ema.net)
            for step in range(steps):
                a, b = (d[torch.randint(len(d), (BATCH,), generator=rng)] for d in (A, B))
                fake_b, fake_a = net.a_to_b(a), net.b_to_a(b)
                # The translators' step needs no gradients of the judges' weights.
                judges.requires_grad_(False)
                loss = judged(judges[0](fake_a), True) + judged(judges[1](fake_b), True)
                loss = loss + self._consistency(net, a, b, fake_a, fake_b)
                descend(loss, adam, self.name, step, good)
                judges.requires_grad_(True)
                D_loss = told_apart(judges[0], a, fake_a.detach()) + told_apart(judges[1], b, fake_b.detach())
                descend(0.5 * D_loss, D_adam, self.name, step, good)
                for schedule in falling:
                    schedule.step()
                ema.update(net)
                advance(1)
        return ema.net

    def _consistency(self, net: Translators, a: Tensor, b: Tensor, fake_a: Tensor, fake_b: Tensor) -> Tensor:
        """eq. 2, and sec. 5.2 where asked for."""
        weight, identity = float(self._settings["cycle"]), float(self._settings["identity"])
        loss = weight * (F.l1_loss(net.b_to_a(fake_b), a) + F.l1_loss(net.a_to_b(fake_a), b))
        if identity:
            loss = loss + identity * weight * (F.l1_loss(net.a_to_b(b), b) + F.l1_loss(net.b_to_a(a), a))
        return loss

    def _build(self, look: Look) -> Translators:
        return Translators(look, int(self._settings["width"]))

    # ------------------------------------------------------------------ translating

    @property
    def _forward(self) -> bool:
        return self._settings["direction"] == "a_to_b"

    def _translated(self, x: Tensor) -> Tensor:
        """Images in 0..1 [B, C, H, W] of the domain translated from -> of the other."""
        assert isinstance(self._net, Translators)
        translate = self._net.a_to_b if self._forward else self._net.b_to_a
        out: Tensor = translate(x.to(self._device) * 2 - 1)
        return (out + 1) / 2

    def _draw(self, start: int, count: int, rng: torch.Generator) -> Batch:
        source = self._kept[0 if self._forward else 1]
        # One order for the whole call, whichever batch asks for it; past the last image, all of them in a new order.
        same = torch.Generator().manual_seed(rng.initial_seed())
        rounds = -(-(start + count) // len(source))
        order = torch.cat([torch.randperm(len(source), generator=same) for _ in range(rounds)])
        chosen = source.at(order[start : start + count])
        return Batch(self._look.render(self._translated(chosen.images)), self._named(chosen.labels))

    def _generate(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        raise BadSource("a translator draws nothing without an image; give it some with sample_given")

    def _named(self, labels: Tensor) -> list[str] | None:
        """The domain translated to where domains are groups; else the class, which a translation has to keep."""
        if len(self._look.classes) == 2:
            return [self._look.classes[1 if self._forward else 0]] * len(labels)
        return self._look.names(labels)

    def sample_given(self, inputs: SampleSet, seed: int) -> Iterator[Batch]:
        """The translation of each image, in order; there is no chance in it, so every seed gives the same.

        Raises BadSetting before `fit`, ModalityMismatch for texts, and BadSource at an image of another size than the
        training images or one that cannot be read.
        """
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before sample_given")
        if inputs.modality != "image":
            raise ModalityMismatch(f"{self.name} translates images, {inputs.name!r} holds {inputs.modality}s")
        return self._translations(inputs)

    def _translations(self, inputs: SampleSet) -> Iterator[Batch]:
        waiting: list[Sample] = []
        for sample in inputs:
            waiting.append(sample)
            if len(waiting) == AT_ONCE:
                yield self._translation(waiting)
                waiting = []
        if waiting:
            yield self._translation(waiting)

    @torch.inference_mode()
    def _translation(self, inputs: list[Sample]) -> Batch:
        x = torch.stack([self._read_input(sample) for sample in inputs])
        items = self._look.render(self._translated(x))
        if len(self._look.classes) == 2:
            return Batch(items, self._named(torch.zeros(len(inputs))))
        groups = [sample.group for sample in inputs if sample.group is not None]
        return Batch(items, groups if len(groups) == len(inputs) else None)

    def _read_input(self, sample: Sample) -> Tensor:
        """One image in 0..1 [C, H, W]; colours become their mean where the training images had none."""
        try:
            pixels = sample.load()
        except UnreadableSample as e:
            raise BadSource(f"image {sample.id!r} cannot be read ({e}); remove it from the set") from e
        c, height, width = self._look.shape
        if isinstance(pixels, str) or pixels.shape[:2] != (height, width):
            found = "a text" if isinstance(pixels, str) else f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise BadSource(
                f"{self.name} learned {width}x{height} images, {sample.id!r} is {found}; scale it to {width}x{height}"
            )
        image: npt.NDArray[np.uint8] = pixels
        x = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        return x if c == 3 else x.mean(0, keepdim=True)

    # ------------------------------------------------------------------ what is kept

    def _salvage(self, state: dict[str, Tensor]) -> bool:
        kept = super()._salvage(state)
        self._kept = self._set_aside
        return kept

    def _tensors(self) -> dict[str, Tensor]:
        kept = {f"net.{name}": value for name, value in super()._tensors().items()}
        for domain, held in zip("ab", self._kept, strict=True):
            kept[f"kept.{domain}.images"] = (held.images * 255).round().to(torch.uint8)
            kept[f"kept.{domain}.labels"] = held.labels
        return kept

    def _restore(self, tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> None:
        a, b = (
            Domain(tensors[f"kept.{domain}.images"].float() / 255, tensors[f"kept.{domain}.labels"]) for domain in "ab"
        )
        weights = {name.removeprefix("net."): v for name, v in tensors.items() if name.startswith("net.")}
        super()._restore(weights, facts)
        self._kept = a, b
