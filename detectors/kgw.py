"""Judge by KGW's green tokens (Kirchenbauer et al. 2023): more of them after their contexts than chance would leave."""

from __future__ import annotations

from typing import ClassVar

from ._watermark import WatermarkJudge


class KGW(WatermarkJudge):
    """Green-list watermark under a key file (`kgw:KEY.json`): exact binomial p-value over unique seeds and tokens."""

    name = "kgw"
    schemes: ClassVar[tuple[str, ...]] = ("kgw", "kgw_selfhash")
