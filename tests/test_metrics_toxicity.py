"""Toxicity by a classifier and bias by word counts: by hand, the classifier from a local folder, bad folders."""

from __future__ import annotations

import pytest
import torch

from evalkit import registry
from evalkit.errors import BadSetting, BadSource, DoesNotApply, ModalityMismatch, UnreadableSample
from evalkit.metrics.toxicity import association, group_bias, representation, toxicity, worst_of_prompts
from evalkit.samples.arrays import from_texts
from evalkit.types import Features

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "day", "dog"]


def scored(scores, prompts=None) -> Features:
    samples = from_texts([f"text {i}" for i in range(len(scores))], conditions=prompts)
    return Features(torch.tensor(scores)[:, None], "toy", samples)


def test_toxicity_by_hand():
    found = toxicity(scored([0.1, 0.5, 0.2, 0.9], ["a", "a", "b", "b"]))
    assert {part: estimate.value for part, estimate in found.items()} == pytest.approx(
        {"": 0.425, "fraction": 0.5, "emt": 0.7, "prompts": 1.0}
    )
    assert found["fraction"].method == "wilson"
    higher = toxicity(scored([0.2, 0.6, 0.3, 0.9], ["a", "a", "b", "b"]))
    assert higher[""].value > found[""].value
    with pytest.raises(BadSetting):
        toxicity(scored([0.1, 0.2]), threshold=1.5)


def test_the_worst_of_a_prompt_needs_prompts_with_as_many_texts():
    parts = toxicity(scored([0.1, 0.2, 0.3]))
    for part in ("emt", "prompts"):
        with pytest.raises(DoesNotApply):
            parts[part]()
    with pytest.raises(DoesNotApply):
        worst_of_prompts(torch.tensor([0.1, 0.2, 0.3]), ["a", "a", "b"])


def test_group_bias_by_hand():
    """she 3, he 1 of lists of one word: shares 3/4 and 1/4, total variation 1/4. Twice the list halves the count."""
    texts = ["She and she.", "she said", "he did", "nobody"]
    assert representation(texts, (("she",), ("he",))).value == pytest.approx(0.25)
    assert representation(texts, (("she", "her", "hers"), ("he",))).value == pytest.approx(0.0)
    beside = ["the nurse, she", "a nurse she knows", "he is a pilot", "a pilot, and he", "she is a pilot"]
    found = association(beside, (("she",), ("he",)), ("nurse", "pilot", "cook"))
    assert found.value == pytest.approx((0.5 + (2 / 3 - 1 / 2)) / 2)
    assert found.low <= found.value <= found.high


def test_one_sided_texts_are_worse_and_silence_does_not_apply():
    even = group_bias(from_texts(["the man walked", "the woman walked", "his hat", "her hat"]))
    odd = group_bias(from_texts(["the man walked", "the man ran", "his hat", "her hat"]))
    assert odd[""].value > even[""].value == pytest.approx(0.0)
    for texts in (["no one here"] * 3, ["he", "nothing"]):
        with pytest.raises(DoesNotApply):
            group_bias(from_texts(texts))
    with pytest.raises(DoesNotApply):
        group_bias(from_texts(["he", "she"]))["association"]()
    with pytest.raises(BadSetting):
        representation(["he", "she"], ("he", "she"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    place = tmp_path_factory.mktemp("classifier")
    (place / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
    transformers.BertTokenizer(str(place / "vocab.txt"), model_max_length=8).save_pretrained(place)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=8, id2label={0: "neutral", 1: "toxic"}, label2id={"neutral": 0, "toxic": 1},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config)
        for parameter in model.parameters():
            parameter.data.normal_()
    model.save_pretrained(place, safe_serialization=True)
    return place


def test_a_classifier_from_a_folder_gives_the_library_s_probability(folder):
    import transformers

    classifier = registry.extractors.get(f"hf_classifier:{folder}")()
    texts = ["good day", "bad", "bad dog good day dog"]
    prepared = [classifier.prepare(text) for text in texts]
    together = classifier(classifier.arrange(prepared))
    alone = torch.cat([classifier(classifier.arrange([own])) for own in prepared])
    assert together == pytest.approx(alone, abs=1e-6)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        expected = [model(**tokenizer(t, return_tensors="pt")).logits.softmax(-1)[0, 1].item() for t in texts]
    assert together[:, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_text_longer_than_the_model_counts_its_worst_window(folder):
    classifier = registry.extractors.get(f"hf_classifier:{folder}:label=toxic")()
    pieces = ["good day good day good day", "bad dog bad dog bad dog"]
    rows = [float(classifier(classifier.arrange([classifier.prepare(piece)]))) for piece in pieces]
    whole = classifier.prepare(" ".join(pieces))
    assert whole.shape == (2, 8)
    assert float(classifier(classifier.arrange([whole]))) == pytest.approx(max(rows), abs=1e-6)
    assert classifier.heads["p_toxic"] == slice(0, 1)


def test_what_is_no_classifier_is_refused_in_one_line(folder, tmp_path):
    classifier = registry.extractors.get(f"hf_classifier:{folder}")()
    with pytest.raises(UnreadableSample):
        classifier.prepare(" ")
    with pytest.raises(ModalityMismatch):
        classifier.prepare(torch.zeros(2, 2, 3).numpy())
    for name in ("hf_classifier", f"hf_classifier:{tmp_path}", f"hf_classifier:{tmp_path}/none"):
        with pytest.raises((BadSetting, BadSource)):
            registry.extractors.get(name)().fetch()
    with pytest.raises(BadSetting, match="neutral, toxic"):
        registry.extractors.get(f"hf_classifier:{folder}:label=rude")().fetch()
    neutral = registry.extractors.get(f"hf_classifier:{folder}:label=neutral")()
    assert neutral.digest != classifier.digest
