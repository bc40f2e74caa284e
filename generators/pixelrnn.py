"""Images from a PixelRNN with row LSTMs: each row of pixels is one step of a recurrent network.

- p(x | y) is the product over pixels, in reading order, of softmax probabilities of grey levels (van den Oord et al.
  2016a, eq. 1), so the likelihood is exact. Without a label it is p(x) = sum_y p(y) p(x | y), p(y) uniform because
  samples take the classes in turn.
- Row LSTM (sec. 3.1): the state of a row is a convolution of the state of the row above (state-to-state, 3 wide) and
  one of the features of this row up to the pixel itself (input-to-state, mask B); all pixels of a row advance together
  in training.
- Before it, a 7x7 convolution that sees only what is before the pixel (mask A, table 1), of which only the taps that
  the mask leaves exist; residual connections around each LSTM (sec. 3.4); a bias for each class in the gates and one
  learned map of positions.
- Colours of a pixel in the order R, G, B: the head of each also reads the earlier colours of its own pixel, where the
  paper splits all feature maps into three groups (sec. 3.3).
- Sampling carries the state: a row costs one state-to-state convolution, a pixel one step of each layer.
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

# Rows above and pixels to either side that the first layer sees: half of a 7x7 kernel.
REACH = 3


class RowLstm(nn.Module):
    """One row LSTM: features of a row and the state of the row above -> the state of this row."""

    def __init__(self, width: int, kinds: int) -> None:
        super().__init__()
        self.input_to_state = nn.Conv2d(width, 4 * width, (1, 2))
        self.state_to_state = nn.Conv1d(width, 4 * width, 3, padding=1, bias=False)
        self.classes = nn.Embedding(kinds, 4 * width)
        nn.init.zeros_(self.classes.weight)
        # Gates in the order o, f, i, g; an open forget gate carries what is above further down from the start.
        nn.init.ones_(self.input_to_state.bias[width : 2 * width])  # type: ignore[index]

    def inputs(self, x: Tensor, labels: Tensor) -> Tensor:
        """What the gates read of features x [B, width, R, 1 + W], one column more than asked: [B, 4 * width, R, W]."""
        out: Tensor = self.input_to_state(x) + self.classes(labels)[:, :, None, None]
        return out

    def cell(self, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """h_i and c_i [B, width, W] of the summed gates [B, 4 * width, W] and c_{i-1} (eq. 3)."""
        o, f, i, g = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Features [B, width, H, W] of all rows -> the next layer's."""
        gates = self.inputs(F.pad(x, (1, 0)), labels)
        h = c = torch.zeros_like(x[:, :, 0])
        rows = []
        for row in gates.unbind(2):
            h, c = self.cell(row + self.state_to_state(h), c)
            rows.append(h)
        return x + torch.stack(rows, 2)


class RowNet(PixelNetwork):
    """Pixel values in -1..1 [B, C, H, W] and classes [B] -> logits of the grey levels [B, V, C, H, W]."""

    def __init__(self, look: Look, width: int, layers: int) -> None:
        super().__init__()
        self.look, self.width = look, width
        c, h, w = look.shape
        self.register_buffer("values", torch.tensor(look.values) / 127.5 - 1, persistent=False)
        # The mask's two halves: the rows above, and the pixels to the left in the same row.
        self.above = nn.Conv2d(c + 1, width, (REACH, 2 * REACH + 1))
        self.left = nn.Conv2d(c + 1, width, (1, REACH), bias=False)
        self.position = nn.Parameter(0.1 * torch.randn(1, width, h, w))
        self.layers = nn.ModuleList(RowLstm(width, look.kinds) for _ in range(layers))
        self.mix = nn.ModuleList(nn.Conv2d(width + i, 2 * width, 1) for i in range(c))
        self.head = nn.ModuleList(nn.Conv2d(2 * width, len(look.values), 1) for _ in range(c))

    @property
    def rows(self) -> list[RowLstm]:
        return cast("list[RowLstm]", list(self.layers))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        # One channel of ones: beyond the border it is zero, which no grey level is told apart by.
        marked = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        padded = F.pad(marked, (REACH, REACH, REACH, 0))
        above, left = self.above(padded[:, :, :-1]), self.left(padded[:, :, REACH:, : -REACH - 1])
        h = F.relu(above + left + self.position)
        for layer in self.layers:
            h = layer(h, labels)
        return torch.stack([self.logits(h, x[:, :i], i) for i in range(x.shape[1])], 2)

    def logits(self, h: Tensor, earlier: Tensor, channel: int) -> Tensor:
        """Logits [B, V, H, W] of one colour from features and the earlier colours [B, channel, H, W] of the pixel."""
        out: Tensor = self.head[channel](F.relu(self.mix[channel](torch.cat([F.relu(h), earlier], 1))))
        return out

    def draw(self, labels: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Indices [B, C, H, W], pixel by pixel: `choose` makes one index each [B] of logits [B, V]."""
        b, (c, height, width), device = len(labels), self.look.shape, labels.device
        indices = torch.zeros(b, c, height, width, dtype=torch.long, device=device)
        # Everything drawn so far, inside a border of zeros as wide as the first layer reaches.
        x = torch.zeros(b, c + 1, REACH + height, width + 2 * REACH, device=device)
        hs, cs = ([torch.zeros(b, self.width, width, device=device) for _ in self.layers] for _ in range(2))
        for i in range(height):
            above = self.above(x[:, :, i : i + REACH])
            carried = [layer.state_to_state(h) for layer, h in zip(self.rows, hs, strict=True)]
            before = [torch.zeros(b, self.width, 1, 1, device=device) for _ in self.layers]
            new: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.layers]
            for j in range(width):
                left = self.left(x[:, :, REACH + i : REACH + i + 1, j : j + REACH])
                f = F.relu(above[..., j : j + 1] + left + self.position[..., i : i + 1, j : j + 1])
                for at, layer in enumerate(self.rows):
                    gates = layer.inputs(torch.cat([before[at], f], 3), labels)[:, :, 0] + carried[at][..., j : j + 1]
                    before[at] = f
                    new[at].append(layer.cell(gates, cs[at][..., j : j + 1]))
                    f = f + new[at][-1][0][:, :, None]
                pixel = x[:, :, REACH + i, REACH + j]
                for channel in range(c):
                    found = choose(self.logits(f, pixel[:, :channel, None, None], channel)[:, :, 0, 0])
                    indices[:, channel, i, j] = found
                    pixel[:, channel] = self.values[found]
                pixel[:, c] = 1
            hs = [torch.cat([h for h, _ in row], 2) for row in new]
            cs = [torch.cat([c for _, c in row], 2) for row in new]
        return indices


class PixelRnn(PixelFamily):
    """Class-conditional PixelRNN (row LSTM) with exact likelihood for images up to 64x64."""

    name = "pixelrnn"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("temperature", 1.0, "below 1 draws likelier pixels, above 1 rarer ones", 0.01, 10),
        Control("steps", 800, "training steps", 1, 1_000_000),
        Control("learning_rate", 4e-3, "highest step size of Adam", 1e-7, 1000),
        Control("width", 32, "features and state of a pixel", 4, 1024),
        Control("layers", 2, "row LSTMs", 1, 16),
    )
    at_sampling = frozenset({"temperature"})

    def _build(self, look: Look) -> RowNet:
        return RowNet(look, int(self._settings["width"]), int(self._settings["layers"]))
