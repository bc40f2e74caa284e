"""The judges: they separate what differs, stay at chance where nothing does, and say P(fake) honestly."""

from __future__ import annotations

import hashlib
import json
import math
import zlib

import numpy as np
import pytest
import torch
from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score

from detectors import BUILTIN
from detectors._fit import rows_of
from detectors.cnn import CNN
from detectors.likelihood import Likelihood
from detectors.ngram_lr import NgramLR
from detectors.residual import Residual
from detectors.spectrum import Spectrum
from evalkit import registry
from evalkit.errors import (
    BadRecord,
    BadSource,
    EvalkitError,
    ModalityMismatch,
    RunFailed,
    TooFewSamples,
    UnreadableSample,
    UnwritableOutput,
)
from evalkit.samples._set import ListedSet, loaded
from evalkit.samples.embedded import open_embedded
from evalkit.types import Attributor, Detector, Sample, Witness

ALL = [Spectrum, Residual, CNN, NgramLR, Likelihood]
RNG = np.random.RandomState(0)


def listed(items, name="toy"):
    """A sample set of arrays or texts in memory."""
    modality = "text" if isinstance(items[0], str) else "image"
    contents = [item.encode() if modality == "text" else item.tobytes() for item in items]
    samples = [
        Sample(f"{name}-{i}", hashlib.sha256(content).hexdigest(), loaded(item))
        for i, (content, item) in enumerate(zip(contents, items, strict=True))
    ]
    return ListedSet(name, modality, tuple(samples))


def p_fake(detector, items):
    """P(fake) of each item, batched by shape."""
    prepared = [detector.prepare(item) for item in items]
    found = torch.zeros(len(items))
    for shape in {tuple(p.shape) for p in prepared}:
        where = [i for i, p in enumerate(prepared) if tuple(p.shape) == shape]
        found[where] = detector(torch.stack([prepared[i] for i in where]))[:, 0]
    return found.numpy()


def auroc(detector, real, fake):
    scores = [p_fake(detector, side) for side in (real, fake)]
    return roc_auc_score(np.repeat([0, 1], [len(s) for s in scores]), np.concatenate(scores))


def blurred(image):
    """Each pixel averaged with its four neighbours."""
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return np.rint((image + around) / 5).astype(np.uint8)


def misspelt(text):
    """Every word of four letters or more with its inner letters turned round."""
    return " ".join(w[0] + w[-2:0:-1] + w[-1] if len(w) > 3 else w for w in text.split(" "))


def unseen(kind):
    """The embedded samples that no shipped weight was trained on, in a shuffled order."""
    items = [s.load() for split in ("heldout", "ceiling") for s in open_embedded(f"embedded:{kind}/{split}")]
    return [items[i] for i in np.random.RandomState(0).permutation(len(items))]


@pytest.fixture(scope="module")
def pools():
    """Per modality: real samples, and other samples spoilt in a way that each judge of it can see."""
    digits, prose = unseen("digits"), unseen("prose")
    return {
        "image": (digits[:360], [blurred(d) for d in digits[360:560]]),
        "text": (prose[:360], [misspelt(p) for p in prose[360:560]]),
    }


@pytest.fixture(scope="module")
def fitted(pools):
    """One judge of each kind, fitted on 100 real and 100 fake samples."""
    judges = {}
    for cls in ALL:
        real, fake = pools[cls.modality]
        judges[cls] = cls()
        judges[cls].fit(listed(real[:100]), listed(fake[:100]), seed=0)
    return judges


# ---------------------------------------------------------------------------------------------- every judge


def test_the_table_names_each_class_by_its_own_name():
    for name in BUILTIN:
        part = registry.detectors.get(name)()
        assert part.name == name and isinstance(part, Detector | Attributor | Witness), name
        if isinstance(part, Witness):
            continue
        assert part.recipe and part.modality in ("image", "text"), name


@pytest.mark.parametrize("cls", ALL)
def test_a_judge_keeps_the_protocol_fitted_or_not(cls, fitted):
    for judge in (cls(), fitted[cls]):
        assert isinstance(judge, Detector)
        assert judge.heads == {"p_fake": slice(0, 1)} and judge.threshold == (0.2, 0.8)
        assert judge.recipe == cls().recipe
    assert cls().digest == f"unfitted:{cls().recipe}"
    assert fitted[cls].digest.startswith("sha256:") and fitted[cls].digest != fitted[cls].recipe


@pytest.mark.parametrize("cls", ALL)
def test_an_easy_pair_is_separated_and_fakes_score_higher(cls, fitted, pools):
    real, fake = pools[cls.modality]
    assert auroc(fitted[cls], real[100:200], fake[100:]) > 0.9


@pytest.mark.parametrize("cls", ALL)
def test_p_fake_is_calibrated_on_samples_it_has_not_seen(cls, fitted, pools):
    real, fake = pools[cls.modality]
    p = np.concatenate([p_fake(fitted[cls], real[100:200]), p_fake(fitted[cls], fake[100:])])
    truth = np.repeat([0, 1], 100)
    assert p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1
    assert p.mean() == pytest.approx(0.5, abs=0.1)
    # Better than saying 0.5 to everything, which a judge that is too sure of itself is not.
    assert -np.log(np.where(truth == 1, p, 1 - p).clip(1e-6)).mean() < 0.6


@pytest.mark.parametrize("cls", ALL)
def test_real_against_real_stays_at_chance(cls, pools):
    real, _ = pools[cls.modality]
    judge = cls()
    judge.fit(listed(real[:100]), listed(real[100:200]), seed=0)
    p = [p_fake(judge, side) for side in (real[200:280], real[280:360])]
    # 80 against 80 at chance has a standard error of sqrt(161 / (12 * 80 * 80)) = 0.046 (Mann and Whitney 1947).
    assert roc_auc_score(np.repeat([0, 1], 80), np.concatenate(p)) == pytest.approx(0.5, abs=3.3 * 0.046)
    assert np.concatenate(p).mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("cls", ALL)
def test_the_same_seed_gives_the_same_rows_and_leaves_the_callers_random_stream_alone(cls, fitted, pools):
    real, fake = pools[cls.modality]
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    again = cls()
    again.fit(listed(real[:100]), listed(fake[:100]), seed=0)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]
    assert again.digest == fitted[cls].digest
    assert np.array_equal(p_fake(again, real[100:140]), p_fake(fitted[cls], real[100:140]))


@pytest.mark.parametrize("cls", ALL)
def test_rows_do_not_depend_on_the_batch(cls, fitted, pools):
    real, _ = pools[cls.modality]
    together = p_fake(fitted[cls], real[100:130])
    alone = np.concatenate([p_fake(fitted[cls], [item]) for item in real[100:130]])
    close = np.isclose(together, alone, rtol=1e-5, atol=1e-6)
    if cls is not Likelihood or close.all():
        assert close.all(), np.abs(together - alone).max()
        return
    # A rank is a count: of two bytes of nearly one chance, rounding decides which is first. Where that happened the
    # statistics without ranks still agree, and one rank of a text has moved by one.
    judge = fitted[cls]
    prepared = [judge.prepare(item) for item in real[100:130]]
    every, each = rows_of(judge._statistics, prepared, "cpu"), rows_of(judge._statistics, prepared, "cpu", size=1)
    ranked = torch.zeros(every.shape[1], dtype=torch.bool).index_fill(0, torch.tensor([2, 6, 7]), True)
    torch.testing.assert_close(every[:, ~ranked], each[:, ~ranked], rtol=1e-4, atol=1e-5)
    moved = (every[:, 2] - each[:, 2]).abs() * torch.tensor([len(p) for p in prepared])
    assert float(moved.max()) <= math.log(2) + 1e-3 and int((moved > 1e-3).sum()) <= 2
    np.testing.assert_allclose(together, alone, rtol=2e-3)


@pytest.mark.parametrize("cls", ALL)
def test_a_saved_judge_comes_back_the_same(cls, fitted, pools, tmp_path):
    real, _ = pools[cls.modality]
    fitted[cls].save(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["card.json", "model.safetensors"]
    back = cls()
    back.load(tmp_path / "model")
    assert (back.digest, back.trained_on) == (fitted[cls].digest, fitted[cls].trained_on)
    assert np.array_equal(p_fake(back, real[100:140]), p_fake(fitted[cls], real[100:140]))


def test_what_it_was_trained_on_is_said_in_digests_and_numbers(fitted, pools):
    real, fake = pools["image"]
    words = f"real {listed(real[:100]).digest} n=100; fake {listed(fake[:100]).digest} n=100"
    assert fitted[CNN].trained_on == fitted[Spectrum].trained_on == words


# ---------------------------------------------------------------------------------------------- refusals


def refusal(error, act):
    with pytest.raises(error) as caught:
        act()
    assert isinstance(caught.value, EvalkitError) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("cls", ALL)
def test_too_few_samples_are_refused(cls, pools):
    real, fake = pools[cls.modality]
    said = refusal(TooFewSamples, lambda: cls().fit(listed(real[:20]), listed(fake[:9]), seed=0))
    assert "10 fake" in said and "has 9" in said


@pytest.mark.parametrize("cls", ALL)
def test_samples_of_the_other_modality_are_refused(cls, pools):
    other = "text" if cls.modality == "image" else "image"
    both = listed(pools[other][0][:20]), listed(pools[other][1][:20])
    refusal(ModalityMismatch, lambda: cls().fit(*both, seed=0))
    refusal(ModalityMismatch, lambda: cls().fit(listed(pools[cls.modality][0][:20]), both[1], seed=0))


@pytest.mark.parametrize("cls", ALL)
def test_an_unfitted_judge_says_so(cls, tmp_path):
    assert "not been fitted" in refusal(RunFailed, lambda: cls().save(tmp_path))
    assert "not been fitted" in refusal(RunFailed, lambda: cls()(torch.zeros(1, 256, 2)))


def test_an_unreadable_training_sample_is_counted_not_hidden(pools):
    def broken():
        raise UnreadableSample("truncated")

    real, fake = pools["image"]
    good = listed(real[:20])
    one_bad = ListedSet("bad", "image", (*good.samples, Sample("bad", "0" * 64, broken)))
    for cls in (Spectrum, CNN):
        judge = cls()
        judge.fit(one_bad, listed(fake[:20]), seed=0)
        assert "n=20 (1 unreadable left out)" in judge.trained_on


@pytest.mark.parametrize("cls", ALL)
def test_foreign_and_damaged_folders_are_refused_and_leave_the_judge_as_it_was(cls, fitted, tmp_path):
    fitted[cls].save(tmp_path)
    card, content = json.loads((tmp_path / "card.json").read_text()), (tmp_path / "model.safetensors").read_bytes()
    judge = cls()

    def attempt(error, new_card=card, new_content=content):
        (tmp_path / "card.json").write_text(new_card if isinstance(new_card, str) else json.dumps(new_card))
        (tmp_path / "model.safetensors").write_bytes(new_content)
        return refusal(error, lambda: judge.load(tmp_path))

    def with_content(new_content):
        return {**card, "sha256": hashlib.sha256(new_content).hexdigest()}, new_content

    assert "other" in attempt(BadRecord, {**card, "name": "other"})
    assert "schema" not in attempt(BadRecord, {**card, "schema": "something/2"})
    assert "another version" in attempt(BadRecord, {**card, "recipe": "sha256:0"})
    assert "damaged" in attempt(BadRecord, card, content[:-1] + bytes([content[-1] ^ 1]))
    attempt(BadRecord, "not json")
    attempt(BadRecord, "[1]")
    attempt(BadRecord, {key: value for key, value in card.items() if key != "facts"})
    attempt(BadRecord, *with_content(b"rubbish"))
    tensors = tensors_from(content)
    first = min(tensors)
    attempt(BadRecord, *with_content(bytes_of({key: t for key, t in tensors.items() if key != first})))
    attempt(BadRecord, *with_content(bytes_of({**tensors, first: tensors[first][..., :1].repeat(1, 1).contiguous()})))
    attempt(BadRecord, *with_content(bytes_of({**tensors, first: torch.full(tensors[first].shape, torch.nan)})))
    refusal(BadSource, lambda: judge.load(tmp_path / "absent"))
    assert judge.digest == f"unfitted:{judge.recipe}"


def test_a_place_that_cannot_be_written_is_refused(fitted, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refusal(UnwritableOutput, lambda: fitted[Spectrum].save(tmp_path / "file"))


def test_ngram_values_are_those_of_scikit_learn(pools):
    from detectors._fit import collect
    from detectors.ngram_lr import BINS as HASHED
    from detectors.ngram_lr import _idf, _matrix

    texts = pools["text"][0][:40]
    data = collect("ngram_lr", "text", NgramLR().prepare, listed(texts[:20]), listed(texts[20:]))
    ours = _matrix(data, _idf(data)).toarray()
    grams = [
        TfidfVectorizer(analyzer="char", ngram_range=(2, 4), lowercase=False).build_analyzer(),
        TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2)).build_analyzer(),
    ]
    for cut, part in zip(grams, (ours[:, :HASHED], ours[:, HASHED:]), strict=True):
        vectorizer = TfidfVectorizer(
            analyzer=lambda text, cut=cut: [zlib.crc32(gram.encode()) % HASHED for gram in cut(text)],
            min_df=2,
            sublinear_tf=True,
        )
        expected = np.zeros_like(part)
        found = vectorizer.fit_transform(texts).toarray()
        expected[:, sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.get)] = found
        np.testing.assert_allclose(part, expected, atol=1e-5)


def test_likelihood_statistics_of_a_known_text():
    from detectors.likelihood import COLUMNS, likelihood_statistics
    from evalkit.extractors.prose_lm import TokenStatistics

    nats = torch.tensor([[1.0, 3.0, 2.0, 6.0, 0.0, 0.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0, 0.0]])
    rank = torch.tensor([[1.0, 4.0, 2.0, 1.0, 1.0, 1.0]]).log()
    row = likelihood_statistics(TokenStatistics(nats, 2 * mask, 4 * mask, rank * mask, mask))[0]
    assert row.shape == (COLUMNS,)
    mean_rank = np.log(8) / 4
    assert row[:10].tolist() == pytest.approx(
        [3, np.sqrt(3.5), mean_rank, 2, 0, (3 - 2) / 2, mean_rank / 3, 0.5, (-1 * 3) / 3 / 3.5, (2 + 1 + 4) / 3],
        abs=1e-5,
    )
    assert row[10:].tolist() == pytest.approx(np.quantile([1, 3, 2, 6], [0.1, 0.25, 0.5, 0.75, 0.9]), abs=1e-5)


def test_a_text_of_one_byte_can_be_judged(fitted):
    assert np.isfinite(p_fake(fitted[Likelihood], ["x"])).all() and np.isfinite(p_fake(fitted[NgramLR], ["x"])).all()
