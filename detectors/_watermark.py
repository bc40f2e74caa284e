"""What watermark detectors share: a key file, an exact p-value a text, and P(fake) made of it. Nothing is fitted.

P(fake) = e / (1 + e) with e = 1 / (2 sqrt(p)): the odds that a p-value can bear. For a true null the mean of e is 1,
whatever the text, so e is an e-value (Vovk & Wang 2021, "E-values: calibration, combination and applications", eq. 1
with kappa = 1/2), the Bayes factor of an alternative under which p has the density 1 / (2 sqrt(p)). It falls with p
alone: p = 1 gives 1/3, p = 0.01 gives 5/6. It never comes near 0: a text without this watermark may be another
generator's, so no text is called authentic; it stays uncertain.

The verdict is synthetic below the key's `fpr`: at most that share of texts written without the key. Texts with fewer
scored tokens than the key's `least_tokens` are not scored, with the reason, and so are uncertain.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal, NoReturn

import torch
from torch import Tensor

from evalkit.errors import BadSetting, ModalityMismatch, UnreadableSample, UsageError
from evalkit.extractors.identity import identity
from evalkit.types import SampleSet
from evalkit.watermarking import WatermarkKey, read_key
from evalkit.watermarking.keys import FPR

from ._judge import Judge

if TYPE_CHECKING:
    from evalkit.types import Media

NEVER = 0.2


def p_fake_of(p: float) -> float:
    """P(fake) in [1/3, 1) of an exact p-value in (0, 1]: 1 / (1 + 2 sqrt(p))."""
    return 1 / (1 + 2 * math.sqrt(p))


class WatermarkJudge(Judge):
    """Base of the watermark detectors: `kgw:KEY.json` reads that key; a detector sets `name` and `schemes`.

    A row is [P(fake), log10 p, z, scored tokens].
    """

    modality: ClassVar[Literal["text"]] = "text"
    schemes: ClassVar[tuple[str, ...]]

    def __init__(self, variant: str = "", *, key: WatermarkKey | None = None) -> None:
        """variant: the path of a key file. key: one that was read. Raises BadSource or BadSetting for a bad key."""
        super().__init__()
        self._key = read_key(variant) if variant and key is None else key
        if self._key is not None and self._key.name not in self.schemes:
            raise BadSetting(
                f"{type(self).name}:{variant}: a key of the scheme {self._key.name!r}; expected"
                f" {' or '.join(self.schemes)}"
            )
        if variant:
            # Two keys can judge the same texts at once, and rows are kept by name.
            self.name = f"{type(self).name}:{variant}"  # type: ignore[misc]

    @property
    def key(self) -> WatermarkKey:
        """The key; UsageError where none was given."""
        if self._key is None:
            name = type(self).name
            raise UsageError(f"detector {name!r} needs a key file: write {name}:KEY.json, see docs/watermarks.md")
        return self._key

    @property
    def recipe(self) -> str:
        terms = {"schemes": list(self.schemes), "p_fake": "1 / (1 + 2 sqrt(p))"}
        if self._key is not None:
            terms = {**terms, "key": self._key.digest, "least_tokens": self._key.least_tokens}  # type: ignore[dict-item]
        return identity(type(self).name, self.version, terms)

    @property
    def digest(self) -> str:
        return self.recipe if self._key is not None else f"unfitted:{self.recipe}"

    @property
    def heads(self) -> Mapping[str, slice]:
        names = ("p_fake", "log10_p", "z", "tokens")
        return MappingProxyType({name: slice(i, i + 1) for i, name in enumerate(names)})

    @property
    def threshold(self) -> tuple[float, float]:
        """Never authentic; synthetic where p is below the key's `fpr`."""
        return (NEVER, p_fake_of(FPR if self._key is None else self._key.fpr))

    @property
    def trained_on(self) -> str:
        return "nothing: a key"

    @property
    def licence(self) -> str:
        """Of the weights; there are none."""
        return "none needed: no weights"

    @property
    def about(self) -> Mapping[str, str]:
        """Scheme, false positive rate, and what is odd about the key."""
        if self._key is None:
            return MappingProxyType({})
        facts = {"scheme": self._key.name, "fpr": repr(self._key.fpr)}
        return MappingProxyType({**facts, **({"warning": "; ".join(self._key.warnings)} if self._key.warnings else {})})

    def obtain(self) -> None:
        """See that there is a key; UsageError where there is none. What is odd about it is said as a warning."""
        for words in self.key.warnings:
            warnings.warn(words, UserWarning, stacklevel=2)

    def prepare(self, sample: Media) -> Tensor:
        """The evidence float32 [4]; UnreadableSample for a text with too few tokens to be judged."""
        if not isinstance(sample, str):
            raise ModalityMismatch(f"detector {self.name!r} judges texts and was given an image")
        found = self.key.examine(sample)
        if found.n < self.key.least_tokens:
            raise UnreadableSample(
                f"{found.n} scored tokens of {found.tokens}; a watermark verdict needs at least {self.key.least_tokens}"
            )
        return torch.tensor([p_fake_of(found.p), math.log10(found.p), found.z, found.n])

    def to(self, device: str) -> None:
        """Tokens are scored on the CPU."""

    def __call__(self, batch: Tensor) -> Tensor:
        return batch.float().cpu()

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> NoReturn:
        """Nothing is fitted: raises UsageError."""
        raise UsageError(f"detector {self.name!r} has nothing to learn: its key decides; give it to --with")

    def save(self, folder: Path) -> NoReturn:
        """Nothing to keep but the key file: raises UsageError."""
        raise UsageError(f"detector {self.name!r} is its key file; there is no model to save")

    def load(self, folder: Path) -> NoReturn:
        """Nothing is kept in a model folder: raises UsageError."""
        raise UsageError(f"detector {type(self).name!r} has no model folder; give {type(self).name}:KEY.json")
