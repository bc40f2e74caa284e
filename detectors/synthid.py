"""Judge by SynthID-Text's coins (Dathathri et al. 2024): more heads over all keys than the null of their form has."""

from __future__ import annotations

from typing import ClassVar

from ._watermark import WatermarkJudge


class SynthID(WatermarkJudge):
    """Tournament watermark under a key file (`synthid:KEY.json`): exact p-value of the (weighted) mean g-value."""

    name = "synthid"
    schemes: ClassVar[tuple[str, ...]] = ("synthid",)
