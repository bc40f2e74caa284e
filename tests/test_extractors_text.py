"""The instruments of texts: the language model's numbers recomputed, what its states see, n-grams by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import UnreadableSample
from evalkit.extractors.char_ngrams import CharNgrams
from evalkit.extractors.prose_lm import OUTSIDE, ByteGRU, ProseLM
from evalkit.extractors.prose_states import ProseStates
from evalkit.metrics.frechet import frechet_distance
from evalkit.metrics.likelihood import corpus_bits_per_byte
from evalkit.metrics.two_sample import two_sample_test
from evalkit.samples.embedded import open_embedded
from evalkit.weights import PACKAGE, SHIPPED, load_weights

from .rows import rows


@pytest.fixture(scope="module")
def lm():
    return ProseLM()


@pytest.fixture(scope="module")
def heldout_prose():
    return [sample.load() for sample in open_embedded("embedded:prose/heldout")]


@pytest.fixture(scope="module")
def states():
    return ProseStates()


# ---------------------------------------------------------------------------------------------- prose_lm


def test_the_probabilities_of_all_next_bytes_sum_to_one(lm):
    log_p = lm.next_log_probabilities(lm.prepare("Names refer to objects.")[None])
    assert log_p.shape == (1, 64, 256)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(1, 64), rtol=0, atol=1e-5)


def test_nats_equal_a_loop_that_reads_one_byte_at_a_time(lm):
    content = b"A name is bound."
    weights = {key: t.double().numpy() for key, t in load_weights(SHIPPED["prose_lm"]).items()}
    width = weights["head.weight"].shape[1]
    hidden, symbol, total = np.zeros(width), OUTSIDE, 0.0
    for byte in content:
        # The GRU of Cho et al. 2014 as torch lays it out: reset, update, new.
        from_input = weights["gru.weight_ih_l0"] @ weights["embedding.weight"][symbol] + weights["gru.bias_ih_l0"]
        from_state = weights["gru.weight_hh_l0"] @ hidden + weights["gru.bias_hh_l0"]
        reset, update = (1 / (1 + np.exp(-(from_input + from_state)[k * width : (k + 1) * width])) for k in (0, 1))
        new = np.tanh(from_input[2 * width :] + reset * from_state[2 * width :])
        hidden = (1 - update) * new + update * hidden
        logits = weights["head.weight"] @ hidden + weights["head.bias"]
        total += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[byte]
        symbol = byte
    row = rows(lm, [content.decode()])[0]
    assert row.tolist() == [pytest.approx(total, rel=1e-4), len(content), len(content)]
    assert lm.token_nats(lm.prepare(content.decode())[None]).sum().item() == pytest.approx(total, rel=1e-4)


def test_a_row_does_not_depend_on_padding_and_long_texts_are_scored_exactly(lm):
    text = "The operator module gives the operations as functions. " * 12  # over two chunks long
    prepared = lm.prepare(text)
    padded = torch.cat([prepared, torch.full((256,), OUTSIDE, dtype=prepared.dtype)])
    torch.testing.assert_close(lm(padded[None]), lm(prepared[None]), rtol=1e-5, atol=0)
    # The nats of a prefix do not change when more text follows.
    whole, start = lm.token_nats(prepared[None])[0], lm.token_nats(lm.prepare(text[:100])[None])[0]
    torch.testing.assert_close(whole[:100], start[:100], rtol=1e-4, atol=1e-4)
    assert start[100:].eq(0).all()


def test_entropy_rank_and_variance_are_those_of_the_distribution(lm):
    batch = lm.prepare("It is an error.")[None]
    p = lm.next_log_probabilities(batch)[0].double().exp().numpy()
    found = lm.token_statistics(batch)
    for t, byte in enumerate(b"It is an error."):
        surprise = -np.log(p[t])
        mean = (p[t] * surprise).sum()
        assert found.nats[0, t].item() == pytest.approx(surprise[byte], rel=1e-4, abs=1e-5)
        assert found.entropy[0, t].item() == pytest.approx(mean, rel=1e-4, abs=1e-5)
        assert found.variance[0, t].item() == pytest.approx((p[t] * (surprise - mean) ** 2).sum(), rel=1e-3, abs=1e-4)
        assert found.log_rank[0, t].item() == pytest.approx(math.log(1 + (p[t] > p[t, byte]).sum()), abs=1e-6)
    assert found.mask[0].sum() == 15 and found.entropy[0, 15:].eq(0).all()


def bits_per_byte(lm, texts):
    nats, _, size = rows(lm, texts, 32).sum(0).tolist()
    return nats / size / math.log(2)


def test_prose_is_less_surprising_than_shuffled_words_and_those_than_letters(lm, heldout_prose):
    rng = np.random.RandomState(0)
    shuffled = [" ".join(rng.permutation(text.split(" "))) for text in heldout_prose[:100]]
    letters = ["".join(rng.choice(list("etaoin shrdlu"), len(text))) for text in heldout_prose[:100]]
    found = [bits_per_byte(lm, texts) for texts in (heldout_prose[:100], shuffled, letters)]
    assert found[0] < found[1] - 0.2 < found[2] - 0.4


def test_prose_lm_has_the_bits_per_byte_of_its_card(lm, heldout_prose):
    card = json.loads((PACKAGE / SHIPPED["prose_lm"].card).read_text())["heldout"]
    # CPython's topics differ a little between versions, and the held-out pieces with them (1.68 with 3.11.2, 1.74 with
    # 3.11.7): the card's number has to lie where these pieces' own interval reaches, or close to it.
    found = corpus_bits_per_byte(rows(lm, heldout_prose, 32))
    assert found.low - 0.05 < card["bits_per_byte"] < found.high + 0.05
    assert found.high - found.low < 0.15
    if open_embedded("embedded:prose/heldout").digest == card["digest"]:
        assert found.value == pytest.approx(card["bits_per_byte"], abs=1e-3)


@pytest.mark.parametrize("extractor", [CharNgrams, ProseLM, ProseStates])
def test_an_empty_text_is_unreadable(extractor):
    with pytest.raises(UnreadableSample, match="empty"):
        extractor().prepare("")


def test_a_text_over_one_mebibyte_is_unreadable(lm):
    with pytest.raises(UnreadableSample, match="split it"):
        lm.prepare("a" * (2**20 + 1))


@settings(max_examples=25, deadline=None)
@given(text=st.text(min_size=1, max_size=80))
def test_any_unicode_text_has_a_finite_row_with_its_bytes(lm, text):
    nats, tokens, size = rows(lm, [text])[0].tolist()
    assert tokens == size == len(text.encode("utf-8", errors="surrogatepass"))
    assert math.isfinite(nats) and nats > 0


# ---------------------------------------------------------------------------------------------- prose_states


def test_a_row_of_states_equals_a_loop_that_reads_one_byte_at_a_time():
    content = b"A name is bound."
    model = ByteGRU()
    model.load_state_dict({key: t.float() for key, t in load_weights(SHIPPED["prose_lm"]).items()})
    model = model.double()
    symbol, state, total = OUTSIDE, None, np.zeros(256)
    with torch.no_grad():
        for byte in content:
            logits, state = model(torch.tensor([[symbol]]), state)
            total -= logits.log_softmax(-1)[0, 0, byte].item() * state[0, 0].numpy()
            symbol = byte
    signs = np.random.RandomState(0).randint(0, 2, size=(256, 128)) * 2 - 1
    expected = total / len(content) @ signs / math.sqrt(128)
    np.testing.assert_allclose(rows(ProseStates(), [content.decode()])[0].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_row_of_states_does_not_depend_on_padding_and_grows_with_no_text(states):
    text = "The operator module gives the operations as functions. " * 12  # over two chunks long
    prepared = states.prepare(text)
    padded = torch.cat([prepared, torch.full((256,), OUTSIDE, dtype=prepared.dtype)])
    torch.testing.assert_close(states(padded[None]), states(prepared[None]), rtol=1e-5, atol=1e-6)
    long, doubled, other = rows(states, [text, text * 2, "Zebras jump quickly over my lazy dogs; vexed wizards."])
    assert (long - doubled).norm() < 0.2 * (long - other).norm()


def test_the_digest_of_states_covers_the_weights_of_the_model(monkeypatch):
    before = ProseStates().digest
    monkeypatch.setattr(ProseLM, "digest", "sha256:others")
    assert ProseStates().digest != before


def test_states_see_the_order_of_words_and_char_ngrams_hardly_do(states, heldout_prose):
    """Real prose, its words shuffled text by text, and words drawn independently, each against other real prose."""
    rng = np.random.RandomState(0)
    intact = [sample.load() for sample in open_embedded("embedded:prose/ceiling")][:150]
    shuffled = [" ".join(rng.permutation(text.split())) for text in intact]
    words = [word for text in intact for word in text.split()]
    drawn = [" ".join(rng.choice(words, len(text.split()))) for text in intact]
    heldout_prose = heldout_prose[:150]
    real = rows(states, heldout_prose, 32)
    sides = [rows(states, texts, 32) for texts in (intact, shuffled, drawn)]
    fid = [float(frechet_distance(real, side)) for side in sides]
    auroc = [two_sample_test(real, side)["auroc"].value for side in sides]
    assert fid[0] < 0.5 * min(fid[1:])
    assert auroc[0] < 0.65 and min(auroc[1:]) > 0.85
    grams = CharNgrams()
    blind = two_sample_test(rows(grams, heldout_prose, 32), rows(grams, shuffled, 32))["auroc"].value
    assert blind < min(auroc[1:])


# ---------------------------------------------------------------------------------------------- char_ngrams


def test_char_ngrams_of_one_letter_by_hand():
    # "aa" has the 1-gram a twice and the 2-gram aa once: weights 1 + ln 2 and 1, at their two bins.
    values = CharNgrams().prepare("aa")
    weights = sorted(values[values != 0].abs().tolist())
    length = math.hypot(1, 1 + math.log(2))
    assert weights == pytest.approx([1 / length, (1 + math.log(2)) / length])


def test_texts_are_nearer_the_more_they_share():
    extractor = CharNgrams()
    text = "The yield statement suspends the function and returns a value to the caller."
    near = "The yield expression suspends a function and returns the value to its caller."
    far = "Quick zebras jump over lazy dogs, while my vexed wizard boxes five jugs of milk."
    found = F.normalize(rows(extractor, [text, text, near, far, "0123456789" * 8]), dim=1)
    same, close, distant, alien = (found[0] @ found[1:].T).tolist()
    assert same == pytest.approx(1)
    assert same > close + 0.05 > distant + 0.1 > alien + 0.15


def test_the_projection_keeps_cosines(heldout_prose):
    extractor, texts = CharNgrams(), heldout_prose[:60]
    before = torch.stack([extractor.prepare(text) for text in texts])
    after = F.normalize(extractor(before), dim=1)
    error = (before @ before.T - after @ after.T).abs()
    assert error.mean() < 0.06
