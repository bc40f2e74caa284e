"""The speed of tokens: each formula by hand, a slow generator behind a fast one, streams equal to samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit import registry
from evalkit.cache import Cache
from evalkit.errors import BadSetting, DoesNotApply
from evalkit.generation import STREAMED_TEXTS, generate
from evalkit.measurement import Bench
from evalkit.metrics.speed import inter_token_latency, tokens_per_second, tpot, ttft
from evalkit.samples.arrays import from_texts
from evalkit.types import Streaming, Timing

TEXTS = [f"the cat number {i} sat on the mat and looked at the dog" for i in range(24)]


def timed(*tokens: tuple[float, ...]) -> Timing:
    return Timing((1.0,), (1,), "toy", 0, tokens=tokens)


def test_by_hand():
    """0.5 s to the first token, then gaps of 0.1 and 0.3; and 0.7 s with gaps of 0.2 and 0.2."""
    timing = timed((0.5, 0.6, 0.9), (0.7, 0.9, 1.1))
    assert ttft(timing)["p50"].value == pytest.approx(600)
    assert tpot(timing)["p50"].value == pytest.approx(200)
    assert inter_token_latency(timing)["p50"].value == pytest.approx(200)
    found = tokens_per_second(timing)
    assert found[""].value == pytest.approx(6 / 2.0)
    assert found["decode"].value == pytest.approx(4 / 0.8)
    for estimate in (*ttft(timing).values(), *inter_token_latency(timing).values(), *found.values()):
        assert estimate.low <= estimate.value <= estimate.high


def test_slower_is_worse_and_a_text_of_one_token_has_no_gaps():
    fast, slow = timed((0.1, 0.2), (0.1, 0.3)), timed((0.2, 0.5), (0.2, 0.6))
    for metric in (ttft, tpot, inter_token_latency):
        assert metric(slow)["p50"].value > metric(fast)["p50"].value
        assert metric.better == "lower"
    assert tokens_per_second(slow)[""].value < tokens_per_second(fast)[""].value
    single = timed((0.25,))
    assert ttft(single)["p95"].value == pytest.approx(250)
    assert set(tokens_per_second(single)) == {""}
    for metric in (tpot, inter_token_latency):
        with pytest.raises(DoesNotApply):
            metric(single)
    with pytest.raises(DoesNotApply):
        ttft(timed())


@pytest.mark.parametrize("name", ["lm", "lstm"])
def test_a_stream_is_the_sample_of_its_seed(name):
    generator = registry.generators.get(name)(steps=3)
    with pytest.raises(BadSetting):
        generator.stream(0)
    generator.fit(from_texts(TEXTS), seed=0)
    assert isinstance(generator, Streaming)
    for seed in range(4):
        text = next(iter(generator.sample(1, seed))).items[0]
        pieces = list(generator.stream(seed))
        assert all(pieces)
        assert "".join(pieces).strip().startswith(text)


def test_what_is_generated_keeps_the_times_of_its_tokens(tmp_path: Path):
    bench = Bench(cache=Cache(tmp_path))
    generator = registry.generators.get("lm")(steps=2)
    generator.fit(from_texts(TEXTS), seed=0)
    drawn = generate(generator, 3, 0, bench, model="toy").timing
    assert 5 <= len(drawn.tokens) <= STREAMED_TEXTS
    assert all(list(text) == sorted(text) and text[0] > 0 for text in drawn.tokens)
    assert generate(generator, 3, 0, bench, model="toy").timing.tokens == drawn.tokens
    other = registry.generators.get("unigram")()
    other.fit(from_texts(TEXTS), seed=0)
    assert generate(other, 3, 0, bench, model="toy").timing.tokens == ()
