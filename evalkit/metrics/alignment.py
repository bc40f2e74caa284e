"""Whether generated images show what their prompts ask for: CLIPScore."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import BadRows, BadSetting
from ..resample import around, moves_of_mean
from ..types import Estimate, Features, metric
from ._guards import rows_of


@metric(on={"image": "clip", "text": None}, better="higher", unit="scaled cosine", min_n=2)
def clip_score(fake: Features, prompts: Features, *, scale: str = "w2.5", prefix: str = "") -> Estimate:
    """Mean agreement of each generated image with its prompt, by CLIP: `w2.5` in [0, 2.5], `x100` in [0, 100].

    Hessel et al. 2021, section 3: 2.5 max(cos, 0), averaged; their prompts begin with the `prefix` "A photo depicts ",
    which is put there before the prompts are measured. `x100` is 100 cos, averaged, then at least 0 (torchmetrics).
    Interval: standard error over images.
    """
    return clip_score_estimate(fake.rows, prompts.rows, scale=scale)


def clip_score_estimate(image_rows: Tensor, prompt_rows: Tensor, *, scale: str = "w2.5") -> Estimate:
    """Scaled mean cosine of image row i with prompt row i, and its 95 % interval; rows [N, D], any length, N >= 2.

    scale: "w2.5" = mean of 2.5 max(cos, 0), in [0, 2.5]; "x100" = max(mean of 100 cos, 0), in [0, 100].
    `per_sample` [N]: each image's own term, of which the value is the mean (below 0 possible for x100).
    Raises BadRows when the sides differ in length or width or a row is zero, TooFewSamples, BadSetting.
    """
    cosines = paired_cosines(image_rows, prompt_rows)
    if scale == "w2.5":
        each, top = 2.5 * cosines.clamp_min(0), 2.5
    elif scale == "x100":
        each, top = 100 * cosines, 100.0
    else:
        raise BadSetting(f"scale is {scale!r}; it must be 'w2.5' (Hessel et al.) or 'x100' (torchmetrics)")
    mean, error = float(each.mean()), float(each.std()) / len(each) ** 0.5
    found = around(mean, error, "standard error", df=len(each) - 1, high=top)
    value, low, high = (max(0.0, end) for end in (found.value, found.low, found.high))
    return Estimate(
        value, low, high, found.method, found.level, per_sample=each.cpu(), moves={"fake": moves_of_mean(each)}
    )


def paired_cosines(image_rows: Tensor, prompt_rows: Tensor) -> Tensor:
    """Cosine of image row i and prompt row i, in [-1, 1], float64 [N]; rows [N, D], N >= 2.

    Raises BadRows when the sides differ in length or width or a row is zero, TooFewSamples.
    """
    if len(image_rows) != len(prompt_rows):
        raise BadRows(f"{len(image_rows)} generated images and {len(prompt_rows)} prompts; each image needs its own")
    images, prompts = rows_of("fake", image_rows), rows_of("prompt", prompt_rows)
    if images.shape[1] != prompts.shape[1]:
        raise BadRows(
            f"image rows have {images.shape[1]} columns, prompt rows {prompts.shape[1]}; measure both with one CLIP"
        )
    lengths = images.norm(dim=1) * prompts.norm(dim=1)
    if not bool((lengths > 0).all()):
        first = int((lengths <= 0).nonzero()[0])
        raise BadRows(f"image or prompt row {first} is zero; an angle needs two directions")
    return torch.einsum("nd,nd->n", images, prompts).div(lengths).clamp(-1, 1)
