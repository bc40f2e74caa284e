"""CLIP ViT-L/14 of OpenAI as two published detectors read it: the embedding, or the first token of every block.

The authors ran it in half precision on a GPU; here it runs in float32 everywhere, which moves log-odds in the third
digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evalkit.extractors._center import CLIP_MEAN, CLIP_STD
from evalkit.extractors._center import View as Seen
from evalkit.extractors._open_clip import Tower
from evalkit.weights import HUB

from ._published import PublishedJudge

BACKBONE = "clip_vit_l_14"
SIDE = 224
MEAN, STD = CLIP_MEAN, CLIP_STD


class OnClip(PublishedJudge):
    """A published head on the frozen image encoder of CLIP ViT-L/14, whose weights are a file of their own.

    A model folder keeps the head alone: the backbone is pinned by its digest and fetched when it is needed.
    """

    instead = "clip_probe"

    def __init__(self, variant: str = "", *, path: Path | None = None, backbone: Path | None = None) -> None:
        """variant, path: as for every published detector. backbone: the file of OpenAI's ViT-L-14."""
        super().__init__(variant, path=path)
        self._tower = Tower("ViT-L/14", "ViT-L-14", "openai", Seen(SIDE, "shorter"), HUB[BACKBONE], backbone)

    @property
    def about(self) -> Mapping[str, str]:
        backbone = {f"backbone {key}": value for key, value in self._tower.about.items()}
        return {**super().about, **backbone}

    def obtain(self) -> None:
        super().obtain()
        self._tower.fetch()

    def to(self, device: str) -> None:
        super().to(device)
        if self._tensors:
            self._tower.to(device)

    def embedded(self, x: Tensor) -> Tensor:
        """[B, 768] of normalised images [B, 3, 224, 224]: projected, not divided by its length."""
        rows: Tensor = self._tower.network(x.device).encode_image(x)
        return rows.float()

    def first_tokens(self, x: Tensor) -> Tensor:
        """[B, blocks, width] of normalised images: the class token after the second norm of every block."""
        network = self._tower.network(x.device)
        transformer = network.visual.transformer
        batch_first = getattr(transformer, "batch_first", True)
        kept: list[Tensor] = []

        def keep(module: Any, inputs: Any, output: Tensor) -> None:
            kept.append(output[:, 0] if batch_first else output[0])

        hooks = [block.ln_2.register_forward_hook(keep) for block in transformer.resblocks]
        try:
            network.encode_image(x)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(kept, dim=1).float()
