"""Cleaned texts as .jsonl files for use elsewhere: of each fake set its own and the reals cleaned against it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..cache import beside
from ..errors import BadSetting, UnwritableOutput
from ..publishing import safe_name
from ..types import SampleSet
from .reading import Side

if TYPE_CHECKING:
    from .auditing import Pair


def check_folder(folder: Path | None, sets: Sequence[SampleSet] = ()) -> None:
    """Refuse, before any work, a folder that is not new or empty, and sets that hold no texts."""
    if folder is None:
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UnwritableOutput(f"{folder} is not an empty folder; give a new one with --out-clean")
    if images := next((one for one in sets if one.modality != "text"), None):
        raise BadSetting(
            f"--out-clean writes texts and {images.name!r} holds images; evalkit leaks says how those are normalised"
        )


def keep_clean(pairs: Sequence[Pair], folder: Path) -> None:
    """Write `NAME.real.jsonl` and `NAME.fake.jsonl` of each pair, whole or not at all: one {id, text, group} a line."""
    with beside(folder) as draft:
        draft.mkdir()
        for i, pair in enumerate(pairs):
            name = safe_name(pair.name)
            name = f"{name}-{i}" if name in {safe_name(other.name) for other in pairs[:i]} else name
            for role, side in (("real", pair.left.real), ("fake", pair.left.fake)):
                (draft / f"{name}.{role}.jsonl").write_text(_lines(side), "utf-8", newline="\n")


def _lines(side: Side) -> str:
    rows = zip(side.ids, side.texts, side.groups, strict=True)
    return "".join(
        json.dumps({"id": own, "text": text, "group": group}, ensure_ascii=False) + "\n" for own, text, group in rows
    )
