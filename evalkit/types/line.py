"""What travels down the line: samples, instruments, generators, rows, timings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    Media: TypeAlias = "npt.NDArray[np.uint8] | str"

Modality: TypeAlias = Literal["image", "text"]
# A floor must come last and a ceiling first; a saboteur is broken in one known way that some metric must catch.
Role: TypeAlias = Literal["candidate", "floor", "ceiling", "saboteur"]


@dataclass(frozen=True)
class Sample:
    """One image or text: `load()` decodes it (image: uint8 [H, W, 3]; text: str) or raises UnreadableSample.

    `digest` is the sha256 of its content as stored, never of its name. `group` is a label or slice, `condition` the
    prompt it was made for, `facts` what the header of its file says, where there is one.
    """

    id: str
    digest: str
    load: Callable[[], Media]
    group: str | None = None
    condition: str | None = None
    facts: Callable[[], MediaFacts] | None = None


@dataclass(frozen=True)
class MediaFacts:
    """What an image file's header says of it; read without decoding a pixel.

    format: PNG, JPEG, ...; mode: Pillow's (RGB, RGBA, L, P, I;16, CMYK, ...); quality: of a JPEG, estimated from its
    luminance table, 1 to 100; orientation: the EXIF tag, 1 = upright; profile: whether an ICC profile is embedded.

    Of the container alone, and so no part of what makes two headers equal: bytes of the file; of a JPEG subsampling
    (4:4:4, 4:2:0, grey, ...), progressive, and tables, the first 12 hex digits of the sha256 of its quantisation
    tables; exif and camera, whether there is EXIF and the make it names; chunks, the names of the metadata it carries.
    """

    format: str
    mode: str
    width: int
    height: int
    frames: int = 1
    quality: int | None = None
    orientation: int = 1
    profile: bool = False
    bytes: int | None = field(default=None, compare=False)
    subsampling: str | None = field(default=None, compare=False)
    progressive: bool = field(default=False, compare=False)
    tables: str | None = field(default=None, compare=False)
    exif: bool = field(default=False, compare=False)
    camera: str = field(default="", compare=False)
    chunks: tuple[str, ...] = field(default=(), compare=False)


@runtime_checkable
class SampleSet(Protocol):
    """Finite, ordered, re-readable samples of one modality; `digest` is of their content in order."""

    @property
    def name(self) -> str: ...
    @property
    def modality(self) -> Modality: ...
    @property
    def digest(self) -> str: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Sample]: ...


class Batch(NamedTuple):
    """What a generator yields: uint8 images [B, H, W, 3] or B texts, with label and prompt of each where it has one."""

    items: npt.NDArray[np.uint8] | Sequence[str]
    groups: Sequence[str] | None = None
    conditions: Sequence[str] | None = None


@runtime_checkable
class Extractor(Protocol):
    """An instrument: `prepare` one sample on the CPU, then call one batch on the device -> float32 rows [B, D].

    `heads` names slices of a row by meaning: "features" (a point in a feature space), "logits" (class scores),
    "likelihood" (nats, tokens, bytes), "p_fake" (one probability). `digest` covers weights and preparation.
    Prepared tensors of one shape are batched together, so a row must not depend on its batch.
    """

    @property
    def name(self) -> str: ...
    @property
    def modality(self) -> Modality: ...
    @property
    def digest(self) -> str: ...
    @property
    def heads(self) -> Mapping[str, slice]: ...
    def prepare(self, sample: Media) -> Tensor: ...
    def to(self, device: str) -> None: ...
    def __call__(self, batch: Tensor) -> Tensor: ...


@runtime_checkable
class Arranging(Protocol):
    """An instrument that takes prepared tensors of any shapes: `arrange` makes one batch of them on the device.

    Its batches are cut by position in the set, so which samples share one depends on nothing but the batch size.
    """

    def arrange(self, prepared: Sequence[Tensor]) -> Tensor: ...


@runtime_checkable
class Unrounded(Protocol):
    """An instrument that also sees images which are not rounded to whole grey levels, as a generator makes them.

    `batch_of` turns images float32 [B, 3, H, W] in 0..255, on the device, into the batch that a call takes; whole grey
    levels become the batch that `prepare` would have made of them.
    """

    def batch_of(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Control:
    """A declared knob of a generator: `--set name=value`; numbers outside [low, high] are refused.

    choices: the words it may be, where it is one of a few.
    """

    name: str
    default: int | float | str
    says: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


@runtime_checkable
class Generator(Protocol):
    """A model that draws samples: same seed and same n, same samples; `recipe` is the digest of family and controls.

    `fit` learns from a sample set, `save` writes `model.safetensors` and `card.json`, `load` reads them back.
    """

    @property
    def name(self) -> str: ...
    @property
    def modality(self) -> Modality: ...
    @property
    def role(self) -> Role: ...
    @property
    def recipe(self) -> str: ...
    @property
    def trained_on(self) -> str: ...
    def fit(self, samples: SampleSet, *, seed: int, device: str = "cpu", progress: Progress | None = None) -> None: ...
    def to(self, device: str) -> None: ...
    def sample(self, n: int, seed: int) -> Iterator[Batch]: ...
    def save(self, folder: Path) -> None: ...
    def load(self, folder: Path) -> None: ...


@runtime_checkable
class Latent(Protocol):
    """A generator of images that decodes codes z ~ N(0, I): float32 [B, latent_size] -> [B, 3, H, W] in 0..255.

    `decode` rounds nothing. One code at one position of the batch always gives one image: where there are classes, the
    positions take them in turn.
    """

    @property
    def latent_size(self) -> int: ...
    def decode(self, z: Tensor) -> Tensor: ...


@runtime_checkable
class Likely(Protocol):
    """A generator that knows how probable a sample is, exactly.

    `prepare` one sample on the CPU, then `likelihood` of one batch on the device: float32 [B, 3] of (nats, units,
    bytes), where a unit is a pixel value of an image or a token of a text. BadSource for a sample of another size.
    """

    def prepare(self, sample: Media) -> Tensor: ...
    def likelihood(self, batch: Tensor) -> Tensor: ...


@runtime_checkable
class Tokenwise(Protocol):
    """A language model that knows how probable every token is at each place of a text, not only the one that came.

    `next_tokens` of a batch as `prepare` made it: of each text the logits float32 [T, V] and the tokens that came [T],
    the end included; what it has no token for is left out, so T >= 1. `likelihood` takes the nats of those tokens [B]
    where they are known already.
    """

    def next_tokens(self, batch: Tensor) -> Iterator[tuple[Tensor, Tensor]]: ...
    def likelihood(self, batch: Tensor, token_nats: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Streaming(Protocol):
    """A generator that hands out one text token by token, each as soon as it is drawn, so that each can be timed.

    The pieces joined are the text of `sample(1, seed)` before anything is trimmed; a piece may be part of a character.
    The token that ends the text is not handed out.
    """

    def stream(self, seed: int) -> Iterator[str]: ...


@runtime_checkable
class Given(Protocol):
    """A generator that makes one sample of each it is given: a translation, a caption, an image of a prompt.

    `takes` is the modality of what it is given; batches come in the order of the inputs.
    """

    @property
    def takes(self) -> Modality: ...
    def sample_given(self, inputs: SampleSet, seed: int) -> Iterator[Batch]: ...


@runtime_checkable
class Tunable(Protocol):
    """A fitted generator that can be trained further on other samples of its modality."""

    def tune(self, samples: SampleSet, *, seed: int, device: str = "cpu", progress: Progress | None = None) -> None: ...


@runtime_checkable
class Progress(Protocol):
    """Where a station reports how far it is; the caller decides what to show."""

    def start(self, task: str, total: int) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def finish(self) -> None: ...


@dataclass(frozen=True)
class Excluded:
    """A sample that could not be read, and why."""

    id: str
    reason: str


@dataclass(frozen=True, eq=False)
class Moments:
    """The mean [D] and covariance [D, D] of a set's rows, float64, N - 1 below the line; n is None when unknown."""

    mean: Tensor
    covariance: Tensor
    n: int | None


@dataclass(frozen=True, eq=False)
class Features:
    """Rows of one instrument for one sample set: float32 [N, D]; row i belongs to sample i.

    `about` says in words what the instrument did (weights, resize, layer). With `moments` the rows are not there
    ([0, D]): the set is a statistics file, of which only its mean and covariance are known.
    """

    rows: Tensor
    extractor: str
    samples: SampleSet
    heads: Mapping[str, slice] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    moments: Moments | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def head(self, name: str) -> Features:
        """The columns that mean `name`; all of them when the instrument does not name its columns."""
        part = self.heads.get(name)
        return self if part is None else replace(self, rows=self.rows[:, part], heads={})


@dataclass(frozen=True)
class Timing:
    """How long each call took to make `sizes[i]` samples: warm-up left out, device synchronised; and what else it cost.

    flops: floating-point operations of the networks for one sample, as torch counts them; None where it counts none.
    joules: energy of the calls that made `joules_for` samples; None where the machine reports none.
    parameters: numbers learnt from the training set. training_seconds: what learning them took, None when unknown.
    tokens: of each text that was streamed, the seconds from the request to the arrival of each of its tokens.
    """

    seconds: tuple[float, ...]
    sizes: tuple[int, ...]
    device: str
    peak_bytes: int
    flops: float | None = None
    joules: float | None = None
    joules_for: int = 0
    parameters: int | None = None
    training_seconds: float | None = None
    tokens: tuple[tuple[float, ...], ...] = ()
