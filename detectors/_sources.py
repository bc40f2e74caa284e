"""What attributors share: sources read and kept apart by content, how usual a score is of a source, and when none fits.

An attributor is fitted on several sources and gives two numbers a source: a score (the highest names the best one) and
a typicality, the conformal p-value of the hypothesis that the sample is one of that source (Vovk et al. 2005): among n
samples of the source, scored by models that had not seen them, the share at most as much like it, the sample itself
counted. A sample whose best source finds it less usual than `reject` is of none of them. `reject` is an order statistic
of what samples of the known sources get when they are judged unseen: at most 5 % of fresh ones come out lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evalkit.errors import BadRecord, BadSetting, BadSource, ModalityMismatch, TooFewSamples, UnreadableSample
from evalkit.types import Sample, SampleSet

from ._judge import Judge

if TYPE_CHECKING:
    from evalkit.types import Media

Array = npt.NDArray[np.float64]

# Of 19 samples no p-value can be 5 %: none could ever be called unusual.
FEWEST = 20
FOLDS = 5
REJECTED = 0.05


@dataclass(frozen=True)
class Gathered:
    """The readable samples of all sources in order: truth [N] numbers the source, fold [N] one of five parts.

    Equal content is in one part, so that no sample is judged by a model that learnt from its copy.
    """

    names: tuple[str, ...]
    samples: tuple[Sample, ...]
    truth: npt.NDArray[np.int64]
    fold: npt.NDArray[np.int64]
    words: str

    def prepared(self, prepare: Callable[[Media], Tensor]) -> Iterator[tuple[int, Tensor]]:
        """Position and prepared tensor of each sample, decoded anew: a thousand large residuals do not fit in memory.

        Raises BadSource for a sample that could be read when it was counted and no longer can.
        """
        for i, sample in enumerate(self.samples):
            try:
                yield i, prepare(sample.load())
            except UnreadableSample as error:
                raise BadSource(f"{sample.id} could be read a moment ago and cannot now: {error}") from error


def gather(name: str, sources: Mapping[str, SampleSet], look: Callable[[Media], object], seed: int) -> Gathered:
    """The samples that `look` can read; the others are counted in the words.

    Raises BadSetting for fewer than two sources, ModalityMismatch for texts, BadSource when two sources have an image
    in common, TooFewSamples for a source of fewer than 20 different readable images.
    """
    if len(sources) < 2:
        raise BadSetting(f"attributor {name!r} was given {len(sources)} source; give two or more to tell apart")
    samples: list[Sample] = []
    truth: list[int] = []
    words: list[str] = []
    home: dict[str, str] = {}
    for number, (source, listed) in enumerate(sources.items()):
        if listed.modality != "image":
            raise ModalityMismatch(f"attributor {name!r} reads images; source {source!r} holds {listed.modality}s")
        own = [sample for sample in listed if _readable(sample, look)]
        for sample in own:
            if home.setdefault(sample.digest, source) != source:
                raise BadSource(
                    f"sources {home[sample.digest]!r} and {source!r} have an image in common ({sample.id}); take it out"
                )
        different = len({sample.digest for sample in own})
        if different < FEWEST:
            raise TooFewSamples(
                f"attributor {name!r} learns from at least {FEWEST} different readable images of a source; {source!r}"
                f" has {different}"
            )
        samples += own
        truth += [number] * len(own)
        gone = len(listed) - len(own)
        words.append(f"{source} {listed.digest} n={len(own)}" + (f" ({gone} unreadable left out)" if gone else ""))
    numbers = np.array(truth, dtype=np.int64)
    return Gathered(tuple(sources), tuple(samples), numbers, _folds(samples, numbers, seed), "; ".join(words))


def _readable(sample: Sample, look: Callable[[Media], object]) -> bool:
    try:
        look(sample.load())
    except UnreadableSample:
        return False
    return True


def _folds(samples: list[Sample], truth: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Each source dealt into five even parts of different content."""
    rng = np.random.RandomState(seed)
    fold = np.zeros(len(samples), dtype=np.int64)
    for number in range(int(truth.max()) + 1):
        where = np.flatnonzero(truth == number)
        contents = sorted({samples[i].digest for i in where})
        dealt = {contents[j]: n % FOLDS for n, j in enumerate(rng.permutation(len(contents)))}
        fold[where] = [dealt[samples[i].digest] for i in where]
    return fold


def threshold_for(scores: Array, usual: Array, truth: npt.NDArray[np.int64], share: float = REJECTED) -> float:
    """The typicality under which at most `share` of fresh samples of known sources come out.

    scores, usual [N, K] of samples by models that had not seen them. It is the floor(share (N + 1))-th smallest of the
    typicalities that their best sources give them, each ranked among the others of that source and not against itself.
    """
    found = np.empty(len(truth))
    best = scores.argmax(axis=1)
    for k in range(scores.shape[1]):
        calibration = np.sort(usual[truth == k, k])
        chosen = np.flatnonzero(best == k)
        at_most = np.searchsorted(calibration, usual[chosen, k], side="right")
        own = truth[chosen] == k
        # One of the source itself is counted among the ranked already.
        found[chosen] = np.where(own, at_most / len(calibration), (1 + at_most) / (len(calibration) + 1))
    rank = math.floor(share * (len(found) + 1) + 1e-9)
    return float(np.sort(found)[rank - 1]) if rank else 0.0


class Attributing(Judge):
    """Base of the attributors: K sources, rows [scores of K, typicalities of K], and what their calibration keeps.

    An attributor writes `prepare`, `fit_sources` (which ends in `_learn_sources`) and `__call__` (in `_rows`).
    """

    modality = "image"

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources it knows, in the order of its columns; none before fitting."""
        return tuple(self._facts.get("sources", ()))

    @property
    def reject(self) -> float:
        """A sample whose best source gives it a typicality under this is of none of them; 0 before fitting."""
        return float(self._facts.get("reject", 0.0))

    @property
    def threshold(self) -> tuple[float, float]:
        """What the card keeps in this place: `reject`, twice."""
        return (self.reject, self.reject)

    @property
    def heads(self) -> Mapping[str, slice]:
        k = len(self.sources)
        return MappingProxyType({"sources": slice(0, k), "typicality": slice(k, 2 * k)})

    @property
    def evidence(self) -> Mapping[str, str]:
        """What marks each source, in words."""
        return MappingProxyType(dict(self._facts.get("evidence", {})))

    def has_seen(self, digest: str) -> bool:
        """Whether a sample of this content was among those it was fitted on."""
        seen = self._fitted()["seen"]
        return bool((seen == _short(digest)).any())

    def _learn_sources(
        self,
        tensors: dict[str, Tensor],
        facts: dict[str, Any],
        gathered: Gathered,
        scores: Array,
        usual: Array,
    ) -> None:
        """Take over what was learnt, with the calibration that the cross-fitted scores and usualness [N, K] give."""
        names = gathered.names
        calibration = [np.sort(usual[gathered.truth == k, k]) for k in range(len(names))]
        kept = {
            **tensors,
            "calibration": torch.from_numpy(np.concatenate(calibration)),
            "seen": torch.tensor(sorted({_short(sample.digest) for sample in gathered.samples})),
        }
        about = {
            **facts,
            "sources": list(names),
            "counts": [len(part) for part in calibration],
            # Rounded as rows are, or a typicality that equals it would come out below.
            "reject": float(np.float32(threshold_for(scores, usual, gathered.truth))),
        }
        self._learn(kept, about, gathered.words)

    def _ready(self) -> None:
        counts = [int(n) for n in self._facts["counts"]]
        values = self._tensors["calibration"].double().cpu()
        if len(counts) != len(self.sources) or values.shape != (sum(counts),) or not 0 <= self._facts["reject"] <= 1:
            raise ValueError("the calibration is not of these sources")
        self._calibration = list(torch.split(values, counts))

    def _rows(self, scores: Tensor, usual: Tensor) -> Tensor:
        """float32 [B, 2 K] of scores and usualness, both float64 [B, K] on the CPU: ranks must not turn on rounding."""
        ranked = [
            (1 + torch.searchsorted(known, usual[:, k].contiguous(), right=True)) / (len(known) + 1)
            for k, known in enumerate(self._calibration)
        ]
        return torch.cat([scores, torch.stack(ranked, dim=1)], dim=1).float()


def _short(digest: str) -> int:
    """The first 15 hex digits of a content digest: they fit a signed 64-bit number."""
    try:
        return int(digest[:15], 16)
    except ValueError as error:
        raise BadRecord(f"{digest!r} is no sha256 of a sample") from error
