"""How natural generated text reads to a language model: perplexity and bits per byte."""

from __future__ import annotations

import math

from torch import Tensor

from ..errors import BadRows
from ..resample import jackknife
from ..types import Estimate, Features, metric
from ._guards import rows_of


@metric(on={"image": None, "text": "prose_lm"}, better="lower", unit="perplexity", reads="likelihood", min_n=2)
def perplexity(fake: Features) -> Estimate:
    """Perplexity per token of all generated texts under the language model, exp(sum nats / sum tokens), >= 1.

    Of the corpus, not the mean of the texts' perplexities. Interval: leave-one-out jackknife in closed form.
    """
    return corpus_perplexity(fake.rows)


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
    return corpus_bits_per_byte(own.rows)


def corpus_perplexity(likelihood: Tensor) -> Estimate:
    """exp(total nats / total tokens), >= 1, with its 95 % interval; rows [N, 3] of (nats, tokens, bytes), N >= 2.

    Raises TooFewSamples, BadRows. Jelinek et al. 1977; the corpus convention of lm-evaluation-harness.
    """
    value, without = _ratio(likelihood, column=1)
    return jackknife(math.exp(value), [without.exp()], low=1.0)


def corpus_bits_per_byte(likelihood: Tensor) -> Estimate:
    """total nats / total bytes / ln 2, >= 0, with its 95 % interval; rows [N, 3] of (nats, tokens, bytes), N >= 2.

    Raises TooFewSamples, BadRows.
    """
    value, without = _ratio(likelihood, column=2)
    return jackknife(value / math.log(2), [without / math.log(2)], low=0.0)


def _ratio(likelihood: Tensor, column: int) -> tuple[float, Tensor]:
    """Total nats over the total of a column, and [N] the same with each text left out."""
    rows = rows_of("fake", likelihood)
    if rows.shape[1] != 3:
        raise BadRows(f"likelihood rows have {rows.shape[1]} columns; expected 3: nats, tokens, bytes")
    nats, units = rows[:, 0], rows[:, column]
    if float(units.min()) <= 0 or float(nats.min()) < 0:
        raise BadRows("a text has negative nats, or no tokens or bytes; leave empty texts out")
    total_nats, total_units = nats.sum(), units.sum()
    return float(total_nats / total_units), (total_nats - nats) / (total_units - units)
