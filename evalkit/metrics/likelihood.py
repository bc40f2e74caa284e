"""How natural generated text reads to a language model: perplexity and bits per byte."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from ..errors import BadRows, BadSetting
from ..resample import jackknife
from ..types import Estimate, Features, Part, SampleSet, metric
from ._guards import rows_of


@metric(
    on={"image": None, "text": "prose_lm"},
    better="lower",
    unit="perplexity",
    reads="likelihood",
    min_n=2,
    requires={
        "strided": (
            "stride",
            "perplexity.strided needs an instrument whose windows overlap; name its stride in tokens, as in"
            " perplexity.strided@hf_lm:FOLDER:stride=512",
        )
    },
)
def perplexity(fake: Features) -> dict[str, Part]:
    """Perplexity per token of all generated texts under the language model, exp(sum nats / sum tokens), >= 1.

    Of the corpus, as lm-evaluation-harness has it. Other conventions are parts, made when asked for by name:
    `text_mean`, the mean over texts of each text's perplexity (Hugging Face evaluate); `strided`, the same formula as
    the corpus's on windows that overlap, refused on others; `word` and `byte`, per word (split at whitespace) and per
    UTF-8 byte of the corpus. Interval: leave-one-out jackknife in closed form.
    """
    return {
        "": corpus_perplexity(fake.rows),
        "text_mean": lambda: mean_perplexity(fake.rows),
        "strided": lambda: _strided(fake),
        "word": lambda: word_perplexity(fake.rows, words_of(fake.samples)),
        "byte": lambda: byte_perplexity(fake.rows),
    }


@metric(on={"image": None, "text": "prose_lm"}, better="lower", unit="bits per byte", reads="likelihood", min_n=2)
def bits_per_byte(fake: Features) -> Estimate:
    """Bits the language model needs per UTF-8 byte of all generated texts, sum nats / sum bytes / ln 2, >= 0.

    Comparable across tokenizers. Interval: leave-one-out jackknife in closed form.
    """
    return corpus_bits_per_byte(fake.rows)


@metric(on={"image": "realnvp", "text": None}, better="lower", unit="bits per dimension", reads="likelihood", min_n=2)
def bits_per_dim(fake: Features) -> Estimate:
    """Bits a density model needs per pixel value of all generated images, sum nats / sum values / ln 2, >= 0.

    The model is a generator that knows likelihoods, trained on the training data, and its likelihood is of the discrete
    grey levels. Samples that are likelier than real ones are not better: compare with the ceiling. Interval:
    leave-one-out jackknife in closed form. Theis et al. 2016, section 3.
    """
    return corpus_bits_per_byte(fake.rows)


@metric(on=None, better="lower", unit="bits per dimension or byte", reads="likelihood", min_n=2)
def held_out_bits(own: Features) -> Estimate:
    """Bits the subject itself needs per pixel value (images) or UTF-8 byte (texts) of the real samples, >= 0.

    For generators that know likelihoods: how much of the real data they expect, the measure they were trained for.
    Interval: leave-one-out jackknife in closed form. van den Oord et al. 2016, section 5.1.
    """
    return corpus_bits_per_byte(own.rows, side="real")


def corpus_perplexity(likelihood: Tensor) -> Estimate:
    """exp(total nats / total tokens), >= 1, with its 95 % interval; rows [N, 3] of (nats, tokens, bytes), N >= 2.

    Raises TooFewSamples, BadRows. Jelinek et al. 1977; the corpus convention of lm-evaluation-harness.
    """
    value, without = _ratio(likelihood, column=1)
    return jackknife(math.exp(value), [without.exp()], low=1.0, sides=("fake",))


def mean_perplexity(likelihood: Tensor) -> Estimate:
    """Mean over texts of exp(nats / tokens), >= 1, with its 95 % interval; rows [N, 3] as in `corpus_perplexity`.

    Short and odd texts rule it: a text of twice the nats per token counts as the square. Raises TooFewSamples, BadRows.
    The convention of Hugging Face evaluate.
    """
    rows = _likelihood_rows(likelihood, "fake")
    each = (rows[:, 0] / rows[:, 1]).exp()
    mean = each.mean()
    without = (each.sum() - each) / (len(each) - 1)
    return jackknife(float(mean), [without], low=1.0, sides=("fake",))


def byte_perplexity(likelihood: Tensor) -> Estimate:
    """exp(total nats / total bytes), >= 1, with its 95 % interval; rows [N, 3] as in `corpus_perplexity`."""
    value, without = _ratio(likelihood, column=2)
    return jackknife(math.exp(value), [without.exp()], low=1.0, sides=("fake",))


def word_perplexity(likelihood: Tensor, words: Tensor) -> Estimate:
    """exp(total nats / total words), >= 1, with its 95 % interval; rows [N, 3] as in `corpus_perplexity`, words [N].

    Comparable across tokenizers. Raises TooFewSamples, BadRows. The convention of lm-evaluation-harness.
    """
    rows = _likelihood_rows(likelihood, "fake")
    value, without = _quotient(rows[:, 0], words.to(rows))
    return jackknife(math.exp(value), [without.exp()], low=1.0, sides=("fake",))


def words_of(samples: SampleSet) -> Tensor:
    """How many words each text has, float64 [N]: pieces between runs of whitespace, as lm-evaluation-harness counts.

    A blank at either end of a text therefore adds an empty piece, and a text without any is one word.
    """
    return torch.tensor([len(re.split(r"\s+", str(sample.load()))) for sample in samples], dtype=torch.float64)


def _strided(fake: Features) -> Estimate:
    """The corpus's perplexity on overlapping windows; BadSetting where the instrument's do not overlap."""
    if fake.about.get("stride", "none") == "none":
        raise BadSetting(perplexity.requires["strided"][1])
    return corpus_perplexity(fake.rows)


def corpus_bits_per_byte(likelihood: Tensor, side: str = "fake") -> Estimate:
    """total nats / total bytes / ln 2, >= 0, with its 95 % interval; rows [N, 3] of (nats, tokens, bytes), N >= 2.

    side: "fake" or "real", whose samples they are. Raises TooFewSamples, BadRows.
    """
    value, without = _ratio(likelihood, column=2, side=side)
    return jackknife(value / math.log(2), [without / math.log(2)], low=0.0, sides=(side,))


def _ratio(likelihood: Tensor, column: int, side: str = "fake") -> tuple[float, Tensor]:
    """Total nats over the total of a column, and [N] the same with each text left out."""
    rows = _likelihood_rows(likelihood, side)
    return _quotient(rows[:, 0], rows[:, column])


def _likelihood_rows(likelihood: Tensor, side: str) -> Tensor:
    rows = rows_of(side, likelihood)
    if rows.shape[1] != 3:
        raise BadRows(f"likelihood rows have {rows.shape[1]} columns; expected 3: nats, tokens, bytes")
    if float(rows[:, 1:].min()) <= 0 or float(rows[:, 0].min()) < 0:
        raise BadRows("a text has negative nats, or no tokens or bytes; leave empty texts out")
    return rows


def _quotient(nats: Tensor, units: Tensor) -> tuple[float, Tensor]:
    total_nats, total_units = nats.sum(), units.sum()
    return float(total_nats / total_units), (total_nats - nats) / (total_units - units)
