"""Judges and what they may be able to do: tell fake from real, name the source, say where, give gradients, resume."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .line import Extractor, SampleSet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor


@runtime_checkable
class Detector(Extractor, Protocol):
    """A judge: an instrument whose row is [P(fake)]; between the two thresholds its verdict is *uncertain*.

    `recipe` is the digest of architecture and settings before fitting; `digest` covers the fitted weights too.
    `save` writes `model.safetensors` and `card.json` into a folder, `load` reads them back.
    """

    @property
    def recipe(self) -> str: ...
    @property
    def threshold(self) -> tuple[float, float]: ...
    @property
    def trained_on(self) -> str: ...
    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None: ...
    def save(self, folder: Path) -> None: ...
    def load(self, folder: Path) -> None: ...


@runtime_checkable
class Differentiable(Protocol):
    """A detector whose log-odds of fake [B] have gradients in its images, float [B, 3, H, W] in 0..255."""

    def log_odds(self, images: Tensor) -> Tensor: ...


@runtime_checkable
class Mapped(Protocol):
    """A detector that says where it looked: `score_map` of one prepared batch, float32 [B, h, w], log-odds of fake.

    `localises` is True only where it was trained on masks; otherwise a map is what the score is made of, no location.
    """

    @property
    def localises(self) -> bool: ...
    def score_map(self, batch: Tensor) -> Tensor: ...


@runtime_checkable
class Resumable(Protocol):
    """A detector whose training can go on where it was cut off: it keeps its state in this folder while it learns."""

    def keep_in(self, folder: Path) -> None: ...


@runtime_checkable
class Published(Protocol):
    """A detector whose weights others published: nothing is fitted, `obtain` finds or fetches the recorded file.

    `licence` is that of the weights. `obtain` raises RunFailed, one line, when they are neither here nor to be had.
    """

    @property
    def licence(self) -> str: ...
    def obtain(self) -> None: ...


@runtime_checkable
class Reconstructor(Protocol):
    """A generator that can draw an image again: uint8 images [B, H, W, 3] -> float32 [B, 3, H, W] in 0..255.

    The same images give the same result: no chance is involved. `save` writes its model folder.
    """

    def save(self, folder: Path) -> None: ...
    def reconstruct(self, images: npt.NDArray[np.uint8]) -> Tensor: ...


@runtime_checkable
class Reconstructing(Protocol):
    """A detector that reads what a generator cannot draw again; `reconstructor_name` is the generator it asks for.

    `recipe` covers the recipe of that generator, and `digest` its fitted weights, once it was handed over. `save`
    writes the generator's model folder as `reconstructor` in its own.
    """

    @property
    def reconstructor_name(self) -> str: ...
    @property
    def reconstructor(self) -> Reconstructor | None: ...
    def take_reconstructor(self, reconstructor: Reconstructor) -> None: ...


@runtime_checkable
class Attributor(Extractor, Protocol):
    """An instrument that names the source of a sample: a row has one score and one typicality for each of `sources`.

    Heads "sources" (scores: the highest names the best source) and "typicality" (conformal p-values in (0, 1]: how
    usual the sample is of that source). A sample is of none of them when the typicality of its best source is under
    `reject`. `evidence` says in words what marks each source; `has_seen` whether it was fitted on this content.
    """

    @property
    def recipe(self) -> str: ...
    @property
    def sources(self) -> tuple[str, ...]: ...
    @property
    def reject(self) -> float: ...
    @property
    def evidence(self) -> Mapping[str, str]: ...
    @property
    def trained_on(self) -> str: ...
    def has_seen(self, digest: str) -> bool: ...
    def fit_sources(self, sources: Mapping[str, SampleSet], *, seed: int, device: str = "cpu") -> None: ...
    def save(self, folder: Path) -> None: ...
    def load(self, folder: Path) -> None: ...


class Critic(Protocol):
    """A detector that a generator is trained against: what it says has gradients, and it learns on the way.

    `watch` uint8 images [N, H, W, 3] of the model as it is now, and learn to tell them from real ones. Called with
    float images [B, 3, H, W] in 0..255 it gives the log-odds of fake [B].
    """

    def watch(self, images: npt.NDArray[np.uint8]) -> None: ...
    def __call__(self, images: Tensor) -> Tensor: ...


@runtime_checkable
class Levelled(Protocol):
    """A panel: row = [P(fake) of each of `members`], head "panel"; it is fitted and asked behind one normalising plan.

    Only for such an instrument are both sides brought to one size, codec and quality first.
    """

    @property
    def levelled(self) -> bool: ...
    @property
    def members(self) -> tuple[str, ...]: ...


@runtime_checkable
class Criticised(Protocol):
    """A generator whose training can take a detector as an extra critic, named by its control `critic`."""

    def take_critic(self, critic: Critic) -> None: ...
