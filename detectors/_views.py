"""How a published detector sees an image: whole, a centre square, ten squares, or squeezed to a square.

"Cannot reproduce" is nearly always a resize where the authors had none, or the other way round, so a view says in words
what it does and the words are part of a detector's identity. `prepare` is what the authors did to a file, exactly;
`of` does the same to float images and passes gradients on, for which a resize by Pillow is replaced by torch's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from evalkit.errors import UnreadableSample

Pixels = npt.NDArray[np.uint8]


class View(Protocol):
    """One image to one tensor in grey levels 0..255; `words` say how."""

    @property
    def words(self) -> str: ...
    def prepare(self, image: Pixels) -> Tensor: ...
    def of(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Whole:
    """Every pixel, nothing resized; `even`: a last odd row and column are left out."""

    even: bool = False

    @property
    def words(self) -> str:
        return "the whole image, not resized" + (", an odd last row or column left out" if self.even else "")

    def prepare(self, image: Pixels) -> Tensor:
        """uint8 [3, H, W]; UnreadableSample for a side of one pixel where sides are made even."""
        height, width = image.shape[:2]
        if self.even and min(height, width) < 2:
            raise UnreadableSample(f"the image is {width} x {height}; differences of neighbours need 2 pixels a side")
        return self.of(_planes(image)).contiguous()

    def of(self, images: Tensor) -> Tensor:
        """The images [..., H, W], without what is odd where sides are made even."""
        if not self.even:
            return images
        height, width = images.shape[-2:]
        return images[..., : height - height % 2, : width - width % 2]


@dataclass(frozen=True)
class Centre:
    """The square of this side cut out of the middle, nothing resized; a smaller image is padded with black."""

    side: int

    @property
    def words(self) -> str:
        return f"centre {self.side} x {self.side} cut out, not resized; smaller images padded with black"

    def prepare(self, image: Pixels) -> Tensor:
        """uint8 [3, side, side]."""
        return self.of(_planes(image)).contiguous()

    def of(self, images: Tensor) -> Tensor:
        """[..., side, side] of images [..., H, W], with the rounding of torchvision's CenterCrop."""
        height, width = images.shape[-2:]
        tall, wide = max(0, self.side - height), max(0, self.side - width)
        padded = F.pad(images, (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2))
        top, left = round((height + tall - self.side) / 2), round((width + wide - self.side) / 2)
        return padded[..., top : top + self.side, left : left + self.side]


@dataclass(frozen=True)
class TenSquares:
    """Four corners and the centre, each also mirrored; nothing resized."""

    side: int

    @property
    def words(self) -> str:
        return f"{self.side} x {self.side} of four corners and the centre, each also mirrored; not resized"

    def prepare(self, image: Pixels) -> Tensor:
        """uint8 [10, 3, side, side]; UnreadableSample when a side of the image is shorter."""
        height, width = image.shape[:2]
        if min(height, width) < self.side:
            raise UnreadableSample(f"the image is {width} x {height}; ten crops need {self.side} pixels a side")
        return self.of(_planes(image)[None])[0].contiguous()

    def of(self, images: Tensor) -> Tensor:
        """[B, 10, 3, side, side] of images [B, 3, H, W]."""
        height, width = images.shape[-2:]
        low, right, side = height - self.side, width - self.side, self.side
        places = [(0, 0), (0, right), (low, 0), (low, right), (round(low / 2), round(right / 2))]
        # The image is mirrored, not the crop: a centre that rounds to one side does so in both.
        both = (images, images.flip(-1))
        return torch.stack([x[..., top : top + side, left : left + side] for x in both for top, left in places], dim=1)


FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class Squeezed:
    """Resized to a square of this side, the aspect ratio not kept.

    rounded: by Pillow, to whole grey levels; else by torch on floats, fractions kept.
    """

    side: int
    filter: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    rounded: bool = True

    @property
    def words(self) -> str:
        how = "Pillow" if self.rounded else "torch, antialiased, fractions kept"
        return f"resized to {self.side} x {self.side}, aspect ratio not kept, {self.filter} ({how})"

    def prepare(self, image: Pixels) -> Tensor:
        """[3, side, side], uint8 when rounded, else float32."""
        if not self.rounded:
            return self.of(_planes(image)[None].float())[0].contiguous()
        picture = Image.fromarray(np.ascontiguousarray(image))
        if picture.size != (self.side, self.side):
            picture = picture.resize((self.side, self.side), FILTERS[self.filter])
        return _planes(np.array(picture)).contiguous()

    def of(self, images: Tensor) -> Tensor:
        """[B, 3, side, side] of float images [B, 3, H, W]."""
        if images.shape[-2:] == (self.side, self.side):
            return images
        size = (self.side, self.side)
        if self.filter == "nearest":
            # Pillow takes the pixel under the centre, which torch calls "nearest-exact".
            return F.interpolate(images, size=size, mode="nearest-exact")
        return F.interpolate(images, size=size, mode=self.filter, antialias=True)


def _planes(image: Pixels) -> Tensor:
    # torch warns of an array that cannot be written, as Pillow hands them out.
    kept = np.ascontiguousarray(image) if image.flags.writeable else image.copy()
    return torch.from_numpy(kept).permute(2, 0, 1)
