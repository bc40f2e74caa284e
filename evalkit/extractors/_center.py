"""How a network of photographs sees an image: a square of fixed side, cut and resized as its authors did.

Rounding to whole grey levels after the resize (Pillow on uint8) and keeping the fractions (float) give features that
differ, so both are here, and a view says which it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Pixels: TypeAlias = npt.NDArray[np.uint8]
Fit: TypeAlias = Literal["shorter", "crop", "squash"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# From here on only what is kept of the image is resized: a 1 x 100,000 strip would need 15 GB as a whole.
LONG = 16

FIT = {
    "shorter": "shorter side to {side} px, centre {side} x {side} cut out",
    "crop": "centre square cut out, resized to {side} x {side} px",
    "squash": "resized to {side} x {side} px, aspect ratio not kept",
}


@dataclass(frozen=True)
class View:
    """A square view: `prepare` cuts and resizes one image, `normalised` turns a batch into what the network takes.

    rounded: resized by Pillow to whole grey levels; else by torch in float32, antialiased, nothing clipped.
    """

    side: int
    fit: Fit
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    filter: Literal["bicubic", "bilinear"] = "bicubic"
    rounded: bool = True

    def prepare(self, image: Pixels) -> Tensor:
        """[3, side, side] in grey levels 0..255, uint8 when rounded, else float32; image uint8 [H, W, 3]."""
        if not self.rounded:
            return resized_float(on_grey_levels(image), self.side, self.filter)[0].contiguous()
        resample = Image.Resampling.BICUBIC if self.filter == "bicubic" else Image.Resampling.BILINEAR
        picture = Image.fromarray(np.ascontiguousarray(image))
        if self.fit == "shorter":
            picture = _shorter_side(picture, self.side, resample)
        elif self.fit == "crop":
            picture = _centre_square(picture).resize((self.side, self.side), resample)
        else:
            picture = picture.resize((self.side, self.side), resample)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()

    def normalised(self, batch: Tensor) -> Tensor:
        """float32 [B, 3, side, side] of prepared images, scaled to [0, 1], less the mean, over the deviation."""
        mean = torch.tensor(self.mean, device=batch.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=batch.device).view(3, 1, 1)
        return (batch.float() / 255 - mean) / std

    @property
    def about(self) -> Mapping[str, str]:
        """What is done to an image, in words."""
        how = "Pillow, rounded to whole grey levels" if self.rounded else "torch, antialiased, fractions kept"
        return {
            "resize": f"{FIT[self.fit].format(side=self.side)}, {self.filter} ({how})",
            "range": f"(x / 255 - {list(self.mean)}) / {list(self.std)}",
        }


def on_grey_levels(image: Pixels) -> Tensor:
    """float32 [1, 3, H, W] of one image uint8 [H, W, 3]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()


def resized_float(images: Tensor, side: int, filter: str = "bicubic") -> Tensor:
    """float32 [B, 3, side, side] in grey levels, antialiased and not clipped; the aspect ratio is not kept."""
    return F.interpolate(images, size=(side, side), mode=filter, antialias=True)


def _shorter_side(picture: Image.Image, side: int, resample: Image.Resampling) -> Image.Image:
    """The convention of torchvision's Resize and CenterCrop, as CLIP was trained: the longer side rounds down."""
    width, height = picture.size
    short = min(width, height)
    wide, high = int(side * width / short), int(side * height / short)
    left, top = round((wide - side) / 2), round((high - side) / 2)
    if max(width, height) > LONG * short:
        across, down = width / wide, height / high
        kept = (left * across, top * down, (left + side) * across, (top + side) * down)
        return picture.resize((side, side), resample, box=kept)
    # An image whose shorter side fits already is not resampled, not even to itself.
    sized = picture if short == side else picture.resize((wide, high), resample)
    return sized.crop((left, top, left + side, top + side))


def _centre_square(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    return picture.crop((left, top, left + short, top + short))
