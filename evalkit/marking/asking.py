"""What was asked of a generator's marks, and whether it holds: passed, failed, or not to be told from so few files.

Without a share an ask is about the files given: each of them has to carry the layer. With a share it is about all that
the generator makes: it passes when the lower end of the exact 95 % interval is at or above the share, fails when the
upper end is below, and is inconclusive in between. Where real files were given, nothing passes that is not found more
often in the outputs than in them (Fisher's exact test, one-sided, 2.5 %): a reader that finds a mark everywhere finds
none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..calibration import Proportion
from ..errors import BadSetting, UnknownName
from .marks import LAYERS
from .passages import COPY
from .surveying import Survey

Answer: TypeAlias = Literal["passed", "failed", "inconclusive"]
ALPHA = 0.025
# The share of files that may be unreadable, as for every other input.
MOST_UNREADABLE = 0.01


@dataclass(frozen=True)
class Ask:
    """A layer that has to be found after a passage: in every file given (share None), or in a share of all."""

    layer: str
    passage: str
    share: float | None

    @property
    def words(self) -> str:
        where = "in the outputs" if self.passage == COPY else f"after {self.passage}"
        return f"{self.layer} {where}, " + ("in every file" if self.share is None else f"in at least {self.share:g}")


@dataclass(frozen=True)
class Answered:
    """An ask with its answer and the reason in words."""

    ask: Ask
    answer: Answer
    why: str


def required(texts: Sequence[str], marks: Collection[str]) -> tuple[Ask, ...]:
    """Asks from LAYER or LAYER:SHARE; raises UnknownName for a layer, BadSetting for a share outside (0, 1]."""
    return tuple(Ask(_layer(t.partition(":")[0], marks), COPY, _share(t, t.partition(":")[2])) for t in texts)


def survived(texts: Sequence[str], marks: Collection[str], passages: Collection[str]) -> tuple[Ask, ...]:
    """Asks from LAYER=CHAIN or LAYER=CHAIN:SHARE; raises UnknownName for a layer or a chain that is not run."""
    found = []
    for text in texts:
        match = re.fullmatch(r"([^=:]+)=([^=:]+)(?::(.*))?", text)
        if match is None:
            raise BadSetting(f"--survive {text!r}; expected LAYER=CHAIN or LAYER=CHAIN:SHARE: watermark=jpeg75:0.9")
        layer, passage, share = match.groups()
        if passage not in passages:
            raise UnknownName("chain of --survive (name it in --chains too)", passage, passages)
        found.append(Ask(_layer(layer, marks), passage, None if share is None else _share(text, share or "?")))
    return tuple(found)


def _layer(name: str, marks: Collection[str]) -> str:
    if name not in LAYERS and name not in marks:
        raise UnknownName("layer", name, [*LAYERS, *marks])
    return name


def _share(text: str, share: str) -> float | None:
    if ":" not in text:
        return None
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise BadSetting(f"{text!r}: the share is {share!r}; expected a number above 0 and at most 1")
    return value


# ---------------------------------------------------------------------------------------------- answers


def answered(ask: Ask, outputs: Survey, real: Survey | None) -> Answered:
    """Whether an ask holds of the outputs looked through."""
    found = outputs.share(ask.layer, ask.passage)
    if isinstance(found, str):
        return Answered(ask, "inconclusive", f"no file could pass: {found}")
    answer, why = _every(found) if ask.share is None else _share_of_all(found, ask.share)
    if answer == "passed" and (doubt := _doubt(ask, found, outputs, real)):
        return Answered(ask, "inconclusive", f"{why}, but {doubt}")
    return Answered(ask, answer, why)


def _every(found: Proportion) -> tuple[Answer, str]:
    lacking = found.n - found.count
    if not lacking:
        return "passed", f"each of the {found.n} files carries it"
    return "failed", f"{lacking} of {found.n} files do not carry it"


def _share_of_all(found: Proportion, share: float) -> tuple[Answer, str]:
    words = f"found in {said(found)}, {found.count} of {found.n} files"
    if found.low >= share:
        return "passed", words
    return ("failed" if found.high < share else "inconclusive"), words


def _doubt(ask: Ask, found: Proportion, outputs: Survey, real: Survey | None) -> str:
    """Why what looks passed cannot be believed; empty where it can."""
    lost, n = len(outputs.excluded), len(outputs.excluded) + len(outputs.files)
    if lost > MOST_UNREADABLE * n:
        return f"{lost} of {n} files could not be read"
    alarms = None if real is None else real.share(ask.layer, ask.passage)
    if isinstance(alarms, Proportion) and not _more_often(found, alarms):
        return f"it is found in {alarms.count} of {alarms.n} real files too, which is not told apart"
    return ""


def _more_often(found: Proportion, alarms: Proportion) -> bool:
    import numpy as np
    from scipy.stats import fisher_exact

    table = np.array([[found.count, found.n - found.count], [alarms.count, alarms.n - alarms.count]])
    return bool(fisher_exact(table, alternative="greater").pvalue < ALPHA)


def said(share: Proportion) -> str:
    """A share with its interval: 0.925 [0.796, 0.984]."""
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
