"""Images from a gated PixelCNN: one pixel after another, each from all before it; the hardest samples to detect.

- p(x | y) is the product over pixels, in reading order, of softmax probabilities of grey levels (van den Oord et al.
  2016b, eq. 1), so the likelihood is exact. Without a label it is p(x) = sum_y p(y) p(x | y), p(y) uniform because
  samples take the classes in turn.
- Two stacks (sec. 2.2): a vertical one sees the rows above, a horizontal one what is left in the row, so that no part
  of the past is blind. Kernels have only the taps that a mask would leave: nothing is multiplied by zero.
- Gated activation tanh * sigmoid with a bias for each class (eq. 4), and one learned map of positions, because a
  convolution does not know where in the image it is.
- Colours of a pixel in the order R, G, B: the head of each also reads the earlier colours of its own pixel, where the
  paper splits all feature maps into three groups (van den Oord et al. 2016a, sec. 3.3).
- Sampling keeps, of every layer, the last row of the vertical and the last pixels of the horizontal stack: all pixels
  together cost one full pass, not one pass each (Ramachandran et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalkit.types import Control

from ._images import Look
from ._pixels import PixelFamily, PixelNetwork

# Rows above and pixels to the left that the first layer sees: the upper half of a 5x5 kernel.
REACH = 2


def gate(a: Tensor) -> Tensor:
    """tanh(a_1) * sigmoid(a_2) of the two halves of the channels (eq. 2)."""
    left, right = a.chunk(2, 1)
    return left.tanh() * right.sigmoid()


class Layer(nn.Module):
    """One layer of both stacks; `rows` above and `columns` to the left are given to it beside what it computes."""

    def __init__(self, before: int, width: int, kinds: int, rows: int, columns: int) -> None:
        super().__init__()
        # The first layer (mask A) must not see the pixel itself; its inputs end one row above, one pixel to the left.
        self.rows, self.columns, self.is_first = rows, columns, before != width
        self.down = nn.Conv2d(before, 2 * width, (rows + 1 - self.is_first, 5 if self.is_first else 3))
        self.right = nn.Conv2d(before, 2 * width, (1, columns + 1 - self.is_first))
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        self.classes = nn.Embedding(kinds, 4 * width)
        nn.init.zeros_(self.classes.weight)

    def vertical(self, v: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """v [B, before, rows + R, W] -> its next features [B, width, R, W] and what the horizontal stack reads."""
        side = self.down.kernel_size[1] // 2
        a = self.down(F.pad(v, (side, side))) + self._bias(labels)[0]
        return gate(a), self.link(a)

    def horizontal(self, h: Tensor, link: Tensor, labels: Tensor) -> Tensor:
        """h [B, before, R, columns + W] and link [B, 2 * width, R, W] -> next features [B, width, R, W]."""
        out: Tensor = self.out(gate(self.right(h) + link + self._bias(labels)[1]))
        return out if self.is_first else out + h[..., self.columns :]

    def _bias(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        vertical, horizontal = self.classes(labels)[:, :, None, None].chunk(2, 1)
        return vertical, horizontal


class PixelNet(PixelNetwork):
    """Pixel values in -1..1 [B, C, H, W] and classes [B] -> logits of the grey levels [B, V, C, H, W]."""

    def __init__(self, look: Look, width: int, layers: int) -> None:
        super().__init__()
        self.look = look
        c, h, w = look.shape
        values = torch.tensor(look.values) / 127.5 - 1
        self.register_buffer("values", values, persistent=False)
        kinds = look.kinds
        self.first = Layer(c + 1, width, kinds, REACH, REACH)
        self.layers = nn.ModuleList(Layer(width, width, kinds, 1, 1) for _ in range(layers))
        self.position = nn.Parameter(0.1 * torch.randn(1, width, h, w))
        self.mix = nn.ModuleList(nn.Conv2d(width + i, 2 * width, 1) for i in range(c))
        self.head = nn.ModuleList(nn.Conv2d(2 * width, len(look.values), 1) for _ in range(c))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        padded = F.pad(self.marked(x), (REACH, 0, REACH, 0))
        v, link = self.first.vertical(padded[:, :, :-1, REACH:], labels)
        h = self.first.horizontal(padded[:, :, REACH:, :-1], link, labels) + self.position
        for layer in self.gated:
            v, link = layer.vertical(F.pad(v, (0, 0, 1, 0)), labels)
            h = layer.horizontal(F.pad(h, (1, 0)), link, labels)
        return torch.stack([self.logits(h, x[:, :i], i) for i in range(x.shape[1])], 2)

    @property
    def gated(self) -> list[Layer]:
        return cast("list[Layer]", list(self.layers))

    def marked(self, x: Tensor) -> Tensor:
        """x with one channel of ones: beyond the border it is zero, which no grey level is told apart by."""
        return torch.cat([x, torch.ones_like(x[:, :1])], 1)

    def logits(self, h: Tensor, earlier: Tensor, channel: int) -> Tensor:
        """Logits [B, V, H, W] of one colour from features and the earlier colours [B, channel, H, W] of the pixel."""
        out: Tensor = self.head[channel](F.relu(self.mix[channel](torch.cat([F.relu(h), earlier], 1))))
        return out

    def draw(self, labels: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Indices [B, C, H, W], pixel by pixel: `choose` makes one index each [B] of logits [B, V]."""
        b, (c, height, width) = len(labels), self.look.shape
        indices = torch.zeros(b, c, height, width, dtype=torch.long, device=labels.device)
        # Everything drawn so far, inside a border of zeros as wide as the first layer reaches.
        x = torch.zeros(b, c + 1, REACH + height, width + REACH, device=labels.device)
        above = [torch.zeros(b, layer.down.in_channels, 1, width, device=labels.device) for layer in self.gated]
        for i in range(height):
            v, first = self.first.vertical(x[:, :, i : i + REACH, REACH:], labels)
            links = []
            for at, layer in enumerate(self.gated):
                above[at], given = v, torch.cat([above[at], v], 2)
                v, link = layer.vertical(given, labels)
                links.append(link)
            left = [torch.zeros_like(v[..., :1]) for _ in self.layers]
            for j in range(width):
                here = x[:, :, REACH + i : REACH + i + 1, j : j + REACH]
                h = self.first.horizontal(here, first[..., j : j + 1], labels) + self.position[..., i, j, None, None]
                for at, layer in enumerate(self.gated):
                    left[at], given = h, torch.cat([left[at], h], 3)
                    h = layer.horizontal(given, links[at][..., j : j + 1], labels)
                pixel = x[:, :, REACH + i, REACH + j]
                for channel in range(c):
                    found = choose(self.logits(h, pixel[:, :channel, None, None], channel)[:, :, 0, 0])
                    indices[:, channel, i, j] = found
                    pixel[:, channel] = self.values[found]
                pixel[:, c] = 1
        return indices


class PixelCnn(PixelFamily):
    """Class-conditional gated PixelCNN with exact likelihood for images up to 64x64."""

    name = "pixelcnn"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("temperature", 1.0, "below 1 draws likelier pixels, above 1 rarer ones", 0.01, 10),
        Control("steps", 1200, "training steps", 1, 1_000_000),
        Control("learning_rate", 4e-3, "highest step size of Adam", 1e-7, 1000),
        Control("width", 32, "feature maps of each stack", 4, 1024),
        Control("layers", 5, "gated layers after the first", 1, 64),
    )
    at_sampling = frozenset({"temperature"})

    def _build(self, look: Look) -> PixelNet:
        net = PixelNet(look, int(self._settings["width"]), int(self._settings["layers"]))
        # Small convolutions take a third less time with the channels of a pixel side by side.
        return net.to(memory_format=torch.channels_last)
