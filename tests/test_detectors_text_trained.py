"""Detectors of texts that learn: trees as tensors, an encoder of transformers, the floor of n-grams on real pairs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load as tensors_from
from sklearn.ensemble import GradientBoostingClassifier

from detectors import _trees
from detectors._fit import balanced_weights
from detectors._token_rows import PairReader, SingleReader
from detectors._trees import boosted, check, log_odds
from detectors.encoder import Encoder
from detectors.ngram_lr import NgramLR
from detectors.surprisal_gbdt import COLUMNS, SurprisalGBDT, features
from evalkit.errors import BadRecord, BadSetting, BadSource, RunFailed, UnreadableSample
from evalkit.extractors.causal.columns import SURPRISAL
from evalkit.measurement import Bench, measure
from evalkit.metrics.detection import area_under_roc

from .data import shared
from .models import TEXTS
from .test_detectors_text import Letters, LettersPair, likely, random
from .toys import texts

RNG = np.random.default_rng(0)


def p_fake(judge, given):
    return judge(judge.arrange([judge.prepare(text) for text in given]))[:, 0]


# ---------------------------------------------------------------------------------------------- trees


def test_walked_trees_are_those_of_scikit_learn():
    X = RNG.normal(size=(120, 5)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] + 0.3 * RNG.normal(size=120) > 0).astype(int)
    trees = boosted(X, y, seed=3)
    model = GradientBoostingClassifier(
        init="zero", n_estimators=200, max_depth=3, learning_rate=0.05, subsample=0.7, min_samples_leaf=10,
        max_features="sqrt", random_state=3,
    ).fit(X, y, sample_weight=balanced_weights(y))  # fmt: skip
    fresh = RNG.normal(size=(300, 5)).astype(np.float32)
    found = log_odds(trees, torch.from_numpy(fresh))
    np.testing.assert_allclose(found.numpy(), model.decision_function(fresh), atol=1e-12)
    # On a threshold itself a row goes left.
    edge = np.repeat(np.float32(trees["threshold"][0, 0].item()), 5)[None]
    assert log_odds(trees, torch.from_numpy(edge)).item() == pytest.approx(model.decision_function(edge)[0], abs=1e-12)


@pytest.mark.parametrize(("key", "value"), [("feature", 5), ("left", 99), ("right", -1)])
def test_trees_that_point_outside_themselves_are_refused(key, value):
    y = np.repeat([0, 1], 20)
    trees = boosted((RNG.normal(size=(40, 5)) + y[:, None]).astype(np.float32), y, seed=0)
    check(trees, 5)
    spoilt = {k: t.clone() for k, t in trees.items()}
    spoilt[key][0, 0] = value
    with pytest.raises(ValueError, match="lies outside"):
        check(spoilt, 5)


@pytest.fixture(scope="module")
def gbdt():
    judge = SurprisalGBDT(reader=SingleReader(Letters("0")))
    human, machine = [random(50, s) for s in range(25)], [likely(50, s) for s in range(25)]
    judge.fit(texts(*human), texts(*machine), seed=0)
    return judge


def test_surprisal_trees_tell_likely_texts_from_others_and_come_back_bit_for_bit(gbdt, tmp_path):
    human, machine = [random(50, s) for s in range(50, 75)], [likely(50, s) for s in range(50, 75)]
    found = p_fake(gbdt, [*human, *machine])
    assert found[:25].max() < 0.5 < found[25:].min()
    gbdt.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["card.json", "model.safetensors"]
    assert set(tensors_from((tmp_path / "model.safetensors").read_bytes())) == {*_trees.KEYS, "calibration"}
    back = SurprisalGBDT(reader=SingleReader(Letters("0")))
    back.load(tmp_path)
    assert torch.equal(p_fake(back, [*human, *machine]), found) and back.digest == gbdt.digest
    other = SurprisalGBDT(reader=SingleReader(Letters("1")))
    with pytest.raises(BadRecord, match="another version"):
        other.load(tmp_path)


def test_features_are_per_token_and_a_text_said_twice_has_the_same_sums(gbdt):
    columns = gbdt._reader.columns([gbdt.prepare(text) for text in ("banana", "zq")])
    rows = features(columns)
    assert rows.shape == (2, len(COLUMNS)) and len(COLUMNS) == 7 + 2 + len(SURPRISAL) - 1
    twice = {k: (2 * v if k not in SURPRISAL else v) for k, v in columns.items()}
    assert torch.allclose(features(twice), rows)
    assert rows[0, COLUMNS.index("log_p")].item() == pytest.approx(-columns["mean"][0].item(), rel=1e-6)


def test_a_pair_and_an_unfitted_judge_are_refused():
    with pytest.raises(BadSetting, match="is a pair"):
        SurprisalGBDT(reader=PairReader(LettersPair()))
    with pytest.raises(RunFailed, match="not been fitted"):
        p_fake(SurprisalGBDT(reader=SingleReader(Letters("0"))), ["abc"])


# ---------------------------------------------------------------------------------------------- encoder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny BERT with first weights and a word-piece tokenizer learnt from TEXTS."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("bert")
    inner = tokenizers.BertWordPieceTokenizer()
    inner.train_from_iterator(TEXTS, vocab_size=150, min_frequency=1)
    names = {f"{k}_token": f"[{k.upper()}]" for k in ("unk", "sep", "pad", "cls", "mask")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner._tokenizer, **names).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=200, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
            max_position_embeddings=40,
        )  # fmt: skip
        transformers.BertModel(config).save_pretrained(folder)
    return folder


ONE = ["the cat sat", "a short door", "the mat on the door", "a cat looked at the mat"]
OTHER = ["numbers 1, 2 and 3", "signs (like these)!", "2 and 1; 3 signs", "these numbers, like signs"]


def sides():
    return [[f"{words[i % 4]} {words[i // 4]}" for i in range(16)] for words in (ONE, OTHER)]


@pytest.mark.parametrize("layers", ["", ":layers=all"])
def test_an_encoder_learns_and_comes_back_the_same(bert, layers, tmp_path):
    human, machine = sides()
    before = torch.get_rng_state()
    judge = Encoder(f"{bert}{layers}")
    judge.fit(texts(*human), texts(*machine), seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    found = p_fake(judge, [*human, *machine])
    assert found[:16].max() < found[16:].min() and found.min() >= 0 and found.max() <= 1
    tuned = [key for key in judge._tensors if key.startswith("encoder.")]
    assert bool(tuned) == bool(layers)
    if tuned:
        was = tensors_from((bert / "model.safetensors").read_bytes())
        assert any(not torch.equal(judge._tensors[f"encoder.{key}"], was[key]) for key in was)
    judge.save(tmp_path)
    back = Encoder(f"{bert}{layers}")
    back.load(tmp_path)
    assert torch.equal(p_fake(back, [*human, *machine]), found) and back.digest == judge.digest


def test_an_encoders_row_does_not_depend_on_what_shares_its_batch(bert):
    judge = Encoder(str(bert))
    judge.fit(texts(*sides()[0]), texts(*sides()[1]), seed=0)
    given = ["the cat", TEXTS[2], "signs and numbers on the mat"]
    assert len(judge.prepare(TEXTS[2])) == 40
    alone = torch.cat([p_fake(judge, [text]) for text in given])
    torch.testing.assert_close(p_fake(judge, given), alone, rtol=1e-5, atol=1e-6)
    with pytest.raises(UnreadableSample):
        judge.prepare("  ")


def test_an_encoder_of_another_folder_is_refused(bert, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(bert, own)
    judge = Encoder(str(own))
    judge.fit(texts(*sides()[0]), texts(*sides()[1]), seed=0)
    judge.save(tmp_path / "kept")
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.1}))
    with pytest.raises(BadRecord, match="another version"):
        Encoder(str(own)).load(tmp_path / "kept")
    (own / "model.safetensors").unlink()
    for variant, words in ((str(own), "no .safetensors"), ("nowhere", "no folder"), ("", "no folder")):
        with pytest.raises((BadSetting, BadSource), match=words):
            Encoder(variant).prepare("a text")
    with pytest.raises(BadSetting, match="head or all"):
        Encoder(f"{bert}:layers=two")


# ---------------------------------------------------------------------------------------------- real texts


def test_ngrams_of_detectrl_know_gpt_4_and_not_its_biomedical_answers():
    """A sixth of the lesson of the floor table, whitespace collapsed; the whole is in the documentation."""
    rows = json.loads(shared("data", "text", "detectrl", "direct_prompt_test.json").read_text("utf-8"))
    folder = shared("data", "text", "fastdetectgpt", "exp_gpt3to4")
    sides = [[" ".join(r["text"].split()) for r in rows if r["label"] == word][::6] for word in ("human", "llm")]
    judge = NgramLR()
    judge.fit(texts(*sides[0]), texts(*sides[1]), seed=0)
    areas = {}
    for name in ("xsum_gpt-4", "pubmed_gpt-4"):
        body = json.loads((folder / f"{name}.raw_data.json").read_text("utf-8"))
        cut = [[" ".join(text.split()) for text in body[side][:40]] for side in ("original", "sampled")]
        found = [measure(texts(*side), [judge], Bench()).features["ngram_lr"].rows[:, 0] for side in cut]
        areas[name] = area_under_roc(*found).value
    assert areas["xsum_gpt-4"] > 0.95 and 0.4 < areas["pubmed_gpt-4"] < 0.75
