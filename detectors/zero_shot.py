"""Judge by one statistic of a language model's tokens, nothing trained but the map from it to P(fake).

`zero_shot:STATISTIC[:SETTING=VALUE ...][:MODEL]`; MODEL is prose_lm where none is named. With l = ln p(token | before),
r = 1 + how many tokens are strictly likelier, H = entropy, means over a text's tokens, every score higher for machines:

- likelihood mean l, rank -mean r, log_rank -mean ln r, entropy mean H (Gehrmann et al. 2019; Su et al. 2023). The
  entropy's sign is that of published tables; for chat models it is below chance there, and it is here.
- lrr -sum l / sum ln r (Su et al. 2023); gltr the shares of tokens ranked 1-10, 11-100, 101-1000, beyond, which is a
  histogram and no score: a calibrated logistic regression reads it.
- fast_detectgpt (sum l - sum mu) / sqrt(sum variance), mu and variance of ln p(token) under the model, or under the
  observer of a pair (Bao et al. 2024, eq. 3, analytic).
- binoculars -(-mean l) / cross entropy of a pair (Hans et al. 2024, as its code has it).
- detectgpt (mean l - mean of its perturbed copies') / their deviation, population, 1 where it is 0 (Mitchell et al.
  2023); npr mean ln r of the copies over that of the text (Su et al. 2023).

A score is no probability. The lesson gives its place and spread and a Platt map with a slope above 0: P(fake) rises
with the score always, so its AUROC is the raw score's, and a statistic that is the wrong way round stays so, near 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from evalkit.errors import BadSetting, UnknownName
from evalkit.extractors.causal.instrument import packed, unpacked
from evalkit.extractors.identity import identity
from evalkit.types import SampleSet

from ._calibrate import platt
from ._fit import collect
from ._judge import LinearJudge
from ._linear import linear_tensors
from ._perturbing import PERTURBERS, Perturber
from ._token_rows import DEFAULT, LEAST_CHARACTERS, Columns, Reader, batches, reader_of, text_of

if TYPE_CHECKING:
    from evalkit.types import Media

FIRST = "fast_detectgpt"
C = 1.0
PERTURBATIONS, MOST_PERTURBATIONS, SEED = 10, 1000, 0
# Where every token was the likeliest the sum of ln r is 0; the next it can be is ln 2, one token that was second.
LEAST_LOG_RANK = math.log(2)
LEAST_VARIANCE = 1e-6
PUBLISHED_THRESHOLDS = (
    "0.9015310749276843 (best F1) and 0.8536432310785527 (FPR 0.01 %) on the score with the other sign are of falcon-7b"
    " and falcon-7b-instruct in bfloat16 alone, and not used here"
)


def likelihood(c: Columns) -> Tensor:
    """Mean ln p of the tokens, <= 0, nats."""
    return c["log_p"] / c["tokens"]


def rank(c: Columns) -> Tensor:
    """Minus the mean rank, <= -1."""
    return -c["rank"] / c["tokens"]


def log_rank(c: Columns) -> Tensor:
    """Minus the mean ln of the rank, <= 0."""
    return -c["log_rank"] / c["tokens"]


def entropy(c: Columns) -> Tensor:
    """Mean entropy of the next-token distributions, >= 0, nats."""
    return c["entropy"] / c["tokens"]


def lrr(c: Columns) -> Tensor:
    """Log-likelihood over log-rank, >= 0; a text of likeliest tokens alone counts as if one had been second."""
    return -c["log_p"] / c["log_rank"].clamp_min(LEAST_LOG_RANK)


def fast_detectgpt(c: Columns) -> Tensor:
    """How many deviations a text is likelier than what the (sampling) model would have written in its place."""
    return (c["log_p"] - c["mu"]) / c["variance"].clamp_min(LEAST_VARIANCE).sqrt()


def binoculars(c: Columns) -> Tensor:
    """Minus the performer's log-perplexity over the cross entropy of observer and performer, <= 0."""
    crossed = (c["cross_entropy"] / c["positions"]).clamp_min(LEAST_VARIANCE)
    return c["log_p"] / c["tokens"] / crossed


def gltr(c: Columns) -> Tensor:
    """Shares [N, 4] of the tokens ranked 1 to 10, to 100, to 1000, and beyond."""
    return torch.stack([c[name] / c["tokens"] for name in ("top_10", "top_100", "top_1000", "rest")], dim=1)


def detectgpt(own: Columns, copies: Sequence[Columns]) -> Tensor:
    """How many deviations of its copies' mean ln p a text's lies above their mean; copies: K of the N texts."""
    others = torch.stack([likelihood(c) for c in copies])
    deviation = others.std(dim=0, correction=0)
    # Of one copy, or of equal ones, the difference itself.
    return (likelihood(own) - others.mean(dim=0)) / torch.where(deviation > 0, deviation, 1.0)


def npr(own: Columns, copies: Sequence[Columns]) -> Tensor:
    """Mean ln r of the copies over the text's, >= 0; the latter as if one token had been second where none was."""
    others = torch.stack([c["log_rank"] / c["tokens"] for c in copies]).mean(dim=0)
    return others / (own["log_rank"].clamp_min(LEAST_LOG_RANK) / own["tokens"])


SINGLE: Mapping[str, Callable[[Columns], Tensor]] = MappingProxyType(
    {f.__name__: f for f in (likelihood, rank, log_rank, entropy, lrr, gltr, fast_detectgpt)}
)
PAIRED: Mapping[str, Callable[[Columns], Tensor]] = MappingProxyType(
    {f.__name__: f for f in (fast_detectgpt, binoculars)}
)
PERTURBED: Mapping[str, Callable[[Columns, Sequence[Columns]], Tensor]] = MappingProxyType(
    {f.__name__: f for f in (detectgpt, npr)}
)
STATISTICS = (*SINGLE, "binoculars", *PERTURBED)


class ZeroShot(LinearJudge):
    """One token statistic of a language model (`zero_shot:log_rank:hf_lm:FOLDER`), mapped to P(fake) on the lesson.

    A row is [P(fake), statistic], of gltr [P(fake), four shares].
    """

    name = "zero_shot"
    modality: ClassVar[Literal["text"]] = "text"
    least_characters: ClassVar[int] = LEAST_CHARACTERS

    def __init__(self, variant: str = "", *, perturber: Perturber | None = None, reader: Reader | None = None) -> None:
        """variant: STATISTIC, settings and model; perturber and reader in place of those it names.

        Raises UnknownName for another statistic, setting or model, BadSetting for a model that cannot give it.
        """
        super().__init__()
        if variant:
            vars(self).update(name=f"zero_shot:{variant}")
        self.statistic, _, rest = (variant or FIRST).partition(":")
        if self.statistic not in STATISTICS:
            raise UnknownName("zero-shot statistic", self.statistic, STATISTICS)
        given, model = _settings(rest)
        self._reader = reader or reader_of(model or DEFAULT)
        self._check_reader()
        self.columns = 4 if self.statistic == "gltr" else 1  # type: ignore[misc]
        self._copies, self._perturber = 0, perturber
        if self.statistic in PERTURBED:
            self._copies = _copies(given)
            self._perturber = perturber or _perturber(given)
        elif given or perturber:
            raise BadSetting(f"{self.name}: {self.statistic} perturbs nothing; leave out {', '.join(given) or 'it'}")

    def _check_reader(self) -> None:
        known = PAIRED if self._reader.pair else (*SINGLE, *PERTURBED)
        if self.statistic not in known:
            wanted = (
                "two models: write lm_pair:hf_lm:OBSERVER+hf_lm:PERFORMER" if not self._reader.pair else "one model"
            )
            raise BadSetting(f"{self.name}: {self.statistic} needs {wanted}; {self._reader.name} was given")

    @property
    def recipe(self) -> str:
        terms: dict[str, object] = {"statistic": self.statistic, "lm": self._reader.digest, "C": C}
        if self._perturber is not None:
            terms |= {"perturber": self._perturber.digest, "perturbations": self._copies, "seed": SEED}
        return identity("zero_shot", self.version, terms)

    @property
    def heads(self) -> Mapping[str, slice]:
        return MappingProxyType({"p_fake": slice(0, 1), "statistic": slice(1, 1 + self.columns)})

    @property
    def about(self) -> Mapping[str, str]:
        """Statistic, model, perturber; what a published threshold is of."""
        facts = {"statistic": self.statistic, **self._reader.about}
        if self._perturber is not None:
            facts["perturber"] = f"{self._perturber.name}, {self._copies} copies"
        if self.statistic == "binoculars":
            facts["published thresholds"] = PUBLISHED_THRESHOLDS
        return MappingProxyType(facts)

    def prepare(self, sample: Media) -> Tensor:
        """int64 [m]: the text as the model reads it, and behind it its perturbed copies where there are any."""
        text = text_of(sample, self.name)
        own = self._reader.prepare(text)
        if self._perturber is None:
            return own
        copies = self._perturber(text, self._copies, SEED)
        return packed([own, *(self._reader.prepare(copy) for copy in copies)])

    def arrange(self, prepared: Sequence[Tensor]) -> Tensor:
        """One batch, int64 [1 + B + sum of lengths]: B, the B lengths, and the texts one after the other."""
        return packed(prepared)

    def to(self, device: str) -> None:
        """The language model to the device; the map of one number stays on the CPU."""
        self._reader.to(device)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        dtype = self._fitted()["mean"].dtype
        found = self.statistics(batch)
        return torch.cat([self._p_fake(found.to(dtype)), found.float()], dim=1)

    @torch.no_grad()
    def statistics(self, batch: Tensor) -> Tensor:
        """The statistic of each text of a batch as `arrange` made it, float64 [B, 1], of gltr [B, 4]; fitted or not."""
        texts = unpacked(batch)
        if self.statistic not in PERTURBED:
            columns = self._reader.columns(texts)
            found = (PAIRED if self._reader.pair else SINGLE)[self.statistic](columns)
        else:
            columns = self._reader.columns([one for text in texts for one in unpacked(text)])
            by_text = {name: values.view(len(texts), -1) for name, values in columns.items()}
            own, *copies = ({name: v[:, k] for name, v in by_text.items()} for k in range(1 + self._copies))
            found = PERTURBED[self.statistic](own, copies)
        return found.view(len(texts), -1)

    def fit(self, real: SampleSet, fake: SampleSet, *, seed: int, device: str = "cpu") -> None:
        """Learn place, spread and map from at least ten samples a side; the seed shuffles the folds of gltr."""
        data = collect(self.name, self.modality, self.prepare, real, fake)
        self.to(device)
        values = torch.cat([self.statistics(batch) for batch in batches(data.prepared, device)])
        if self.columns > 1:
            self._learn(linear_tensors(values, data.is_fake, C, seed), {"seed": seed}, data.words)
            return
        spread = float(values.std(correction=0))
        mean, scale = values.mean().reshape(1), torch.tensor([spread if spread > 1e-9 else 1.0])
        found = platt(((values - mean) / scale)[:, 0].numpy(), data.is_fake)
        learnt = {"mean": mean, "scale": scale, "coefficients": [found.slope], "intercept": [found.offset]}
        tensors = {key: torch.as_tensor(value, dtype=torch.float64) for key, value in learnt.items()}
        self._learn(tensors, {"seed": seed}, data.words)


def _settings(rest: str) -> tuple[dict[str, str], str]:
    """The settings in front of a model's name, and the name."""
    given: dict[str, str] = {}
    while "=" in (first := rest.partition(":")[0]):
        key, _, value = first.partition("=")
        if key not in ("perturbations", "perturber"):
            raise UnknownName("setting of zero_shot", key, ("perturbations", "perturber"))
        given[key] = value
        rest = rest.partition(":")[2]
    return given, rest


def _copies(given: Mapping[str, str]) -> int:
    said = given.get("perturbations", str(PERTURBATIONS))
    if not (said.isascii() and said.isdigit() and 1 <= int(said) <= MOST_PERTURBATIONS):
        raise BadSetting(f"perturbations = {said!r}; expected a whole number from 1 to {MOST_PERTURBATIONS}")
    return int(said)


def _perturber(given: Mapping[str, str]) -> Perturber:
    name = given.get("perturber", "spans")
    if name not in PERTURBERS:
        raise UnknownName("perturber", name, list(PERTURBERS))
    return PERTURBERS[name]()
