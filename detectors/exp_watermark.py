"""Judge by Aaronson's exponential score: tokens whose seeded uniform numbers are higher than chance would leave."""

from __future__ import annotations

from typing import ClassVar

from ._watermark import WatermarkJudge


class ExpWatermark(WatermarkJudge):
    """EXP watermark under a key file (`exp_watermark:KEY.json`): exact gamma p-value over unique context and token."""

    name = "exp_watermark"
    schemes: ClassVar[tuple[str, ...]] = ("exp",)
