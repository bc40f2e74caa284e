"""Text embeddings: states of causal language models and of encoders, against the library's own loop over one text."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from evalkit import registry
from evalkit.errors import BadSetting, EvalkitError, ModalityMismatch, RunFailed, UnknownName, UnreadableSample
from evalkit.extractors.causal.hub import HubLM
from evalkit.extractors.causal.pooling import Pool
from evalkit.extractors.causal.reading import read, read_pooled
from evalkit.extractors.causal.settings import Settings
from evalkit.extractors.hf_encoder import HubEncoder, alike, split
from evalkit.measurement import Bench, measure
from evalkit.types import Arranging, Extractor
from evalkit.verbs import score

from .models import TEXTS, Bigram, hub_folder, table
from .toys import texts

transformers = pytest.importorskip("transformers")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "day", "dog", "a", "b", "c"]
SHORT = ["good day", "bad", "bad dog good day dog", "a b c a b c a", "good day"]


def rows(instrument, given):
    instrument.fetch()
    return instrument(instrument.arrange([instrument.prepare(text) for text in given]))


def features(instrument, given):
    return rows(instrument, given)[:, instrument.heads["features"]]


# ---------------------------------------------------------------------------------------------- causal models


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("causal")
    return {kind: hub_folder(root / kind, kind, begins=kind != "gpt2") for kind in ("gpt2", "llama", "granite")}


@pytest.mark.parametrize("kind", ["gpt2", "llama", "granite"])
@pytest.mark.parametrize("settings", ["", ":stride=8", ":prefix=none:context=20"])
def test_features_are_the_library_s_last_states_of_the_beginning_of_a_text(folders, kind, settings):
    model = transformers.AutoModelForCausalLM.from_pretrained(folders[kind]).float().eval()
    last, mean = (HubLM(f"{folders[kind]}:pool={pool}{settings}") for pool in ("last", "mean"))
    found, averaged = features(last, TEXTS), features(mean, TEXTS)
    lengths = [len(last.prepare(text)) - 1 for text in TEXTS]
    assert min(lengths) < last.context < max(lengths)  # one text fits whole, one is cut
    for text, own, average in zip(TEXTS, found, averaged, strict=True):
        tokens = last.prepare(text)[1:][None, : last.context]
        with torch.no_grad():
            states = model(tokens, output_hidden_states=True).hidden_states[-1][0]
        torch.testing.assert_close(own, states[-1], rtol=1e-4, atol=1e-4)
        lead = 0 if "prefix=none" in settings else 1
        torch.testing.assert_close(average, states[lead:].mean(0), rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_the_batch_and_leave_the_other_heads_as_they_are(folders):
    instrument = HubLM(str(folders["llama"]))
    together = rows(instrument, TEXTS)
    alone = torch.cat([rows(instrument, [text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=2e-5)
    prepared = [instrument.prepare(text) for text in TEXTS]
    nats = [-series.log_p.sum().item() for series in instrument.token_statistics(prepared)]
    assert together[:, 0].tolist() == pytest.approx(nats, rel=1e-5)
    assert HubLM(f"{folders['llama']}:pool=mean").digest != instrument.digest
    assert HubLM(f"{folders['llama']}:pool=last").digest == instrument.digest


@pytest.mark.parametrize("separable", [True, False])
def test_a_text_that_fills_the_context_is_read_to_its_last_token(separable):
    """States of this model name the token that was read, so the feature says which one it was."""
    values = table(30)
    given = [torch.arange(m) for m in (2, 7, 8, 9, 10, 30)]
    windows = [Settings().windows(len(text), Bigram.context) for text in given]
    network = Bigram(values, separable)
    found, states = read_pooled(network, given, windows, Pool("last", 1, Bigram.context))
    assert states.argmax(1).tolist() == [1, 6, 7, 7, 7, 7]
    for ours, plain in zip(found, read(Bigram(values), given, windows), strict=True):
        torch.testing.assert_close(ours.log_p, plain.log_p)
        assert torch.equal(ours.rank, plain.rank)
    assert max(width for _, width in network.read) == Bigram.context
    _, averaged = read_pooled(network, given, windows, Pool("mean", 1, Bigram.context))
    assert averaged[1].tolist() == pytest.approx([0] + [1 / 6] * 6 + [0] * 23)
    _, only = read_pooled(network, given, [Settings().windows(len(t), 1) for t in given], Pool("mean", 1, 1))
    assert only.argmax(1).tolist() == [0] * 6


@pytest.mark.parametrize("kind", ["hf_lm", "hf_encoder"])
def test_metrics_of_embeddings_tell_the_same_words_from_two_of_them(folders, encoders, kind):
    name = f"{kind}:{folders['gpt2'] if kind == 'hf_lm' else encoders['bert']}"
    rng = np.random.default_rng(0)
    real, same = ([" ".join(rng.choice(WORDS[5:], 5)) for _ in range(40)] for _ in range(2))
    other = [" ".join(rng.choice(["bad", "dog"], 5)) for _ in range(40)]
    asked = [f"{metric}@{name}" for metric in ("mauve", "vendi", "fid")]
    near, far = (
        {r.name.partition("@")[0]: r.value for r in score(texts(*side), real=texts(*real), metrics=asked).results}
        for side in (same, other)
    )
    assert near["mauve"] > far["mauve"] + 0.1
    assert near["vendi"] > far["vendi"] > 1
    assert near["fid"] < far["fid"] / 2


# ---------------------------------------------------------------------------------------------- encoders


def encoder_folder(folder, kind="bert"):
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=8).save_pretrained(folder)
    sizes = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape = {**sizes, "intermediate_size": 24, "pad_token_id": 0, "max_position_embeddings": 8 + (kind == "roberta")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        name = {"bert": "Bert", "roberta": "Roberta"}[kind]
        model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**shape))
        for parameter in model.parameters():
            parameter.data.normal_()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    return {kind: encoder_folder(root / kind, kind) for kind in ("bert", "roberta")}


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_an_encoder_gives_the_library_s_states_whatever_shares_the_batch(encoders, kind):
    folder = encoders[kind]
    instrument = registry.extractors.get(f"hf_encoder:{folder}")()
    assert isinstance(instrument, Extractor) and isinstance(instrument, Arranging)
    together = features(instrument, SHORT)
    alone = torch.cat([features(instrument, [text]) for text in SHORT])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    # As one padded batch, whatever the lengths.
    padded = instrument._pooled([instrument.prepare(text) for text in SHORT])
    torch.testing.assert_close(padded, together, rtol=1e-5, atol=1e-5)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    first = features(HubEncoder(f"{folder}:pool=cls"), SHORT)
    for text, mean, cls in zip(SHORT, together, first, strict=True):
        given = tokenizer(text, truncation=True, max_length=8, return_tensors="pt")
        with torch.no_grad():
            states = model(input_ids=given["input_ids"]).last_hidden_state[0]
        torch.testing.assert_close(mean, states.mean(0), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(cls, states[0], rtol=1e-5, atol=1e-5)
    unit = features(HubEncoder(f"{folder}:norm"), SHORT)
    torch.testing.assert_close(unit, together / together.norm(dim=1, keepdim=True))


def test_settings_are_another_instrument_and_a_copy_is_the_same_one(encoders, tmp_path):
    folder = encoders["bert"]
    variants = ["", ":pool=cls", ":norm", ":context=6"]
    assert len({HubEncoder(f"{folder}{variant}").digest for variant in variants}) == 4
    shutil.copytree(folder, tmp_path / "copy")
    assert HubEncoder(str(tmp_path / "copy")).digest == HubEncoder(f"{folder}:pool=mean").digest
    cut, whole = HubEncoder(f"{folder}:context=6"), HubEncoder(str(folder))
    assert len(cut.prepare(SHORT[3])) == 6 and len(whole.prepare(SHORT[3])) == 8
    assert whole.about["features"] == "mean of the last hidden states over all tokens"
    assert split("hub/name:norm:pool=cls") == ("hub/name", "cls", 0, True)
    measured = measure(texts(*SHORT, ""), [whole], Bench())
    assert len(measured.excluded) == 1 and measured.features[whole.name].head("features").rows.shape == (5, 16)


def test_what_is_no_encoder_or_no_text_is_refused_in_one_line(encoders, folders, tmp_path, monkeypatch):
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    folder = encoders["bert"]

    def refusal(variant):
        with pytest.raises(EvalkitError) as caught:
            HubEncoder(variant).fetch()
        assert "\n" not in str(caught.value)
        return caught.type, str(caught.value)

    assert refusal("")[1].startswith("hf_encoder needs a model")
    assert refusal("nobody/nothing")[0] is RunFailed and "switched off" in refusal("nobody/nothing")[1]
    for setting in ("pool=max", "norm=2", "context=0", "context=9", "context=2", "context=x"):
        assert refusal(f"{folder}:{setting}")[0] is BadSetting
    assert refusal(f"{folder}:poll=cls")[0] is UnknownName
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    assert "pickles are not read" in refusal(str(tmp_path))[1]
    with pytest.raises(BadSetting, match="pool = 'cls'; expected last or mean"):
        HubLM(f"{folders['gpt2']}:pool=cls").fetch()
    instrument = HubEncoder(str(folder))
    for text in ("", "  \n", "a\ud800", "a" * (2**20 + 1)):
        with pytest.raises(UnreadableSample):
            instrument.prepare(text)
    with pytest.raises(ModalityMismatch):
        instrument.prepare(np.zeros((2, 2, 3), np.uint8))


def test_an_encoder_that_lacks_weights_is_refused_and_one_without_a_pooler_is_not(encoders, tmp_path):
    from safetensors.torch import load_file, save_file

    before = features(HubEncoder(str(encoders["bert"])), SHORT)
    weights = load_file(encoders["bert"] / "model.safetensors")
    for name, dropped in (("bare", "pooler."), ("broken", "encoder.layer.1.output.dense.")):
        shutil.copytree(encoders["bert"], tmp_path / name)
        kept = {key: value for key, value in weights.items() if not key.startswith(dropped)}
        assert len(kept) < len(weights)
        save_file(kept, tmp_path / name / "model.safetensors", {"format": "pt"})
    assert torch.equal(features(HubEncoder(str(tmp_path / "bare")), SHORT), before)
    with pytest.raises(RunFailed, match=r"lacks 2 weights of its encoder, such as encoder\.layer\.1"):
        HubEncoder(str(tmp_path / "broken")).to("cpu")


def test_texts_of_like_length_share_a_batch():
    assert alike([10, 3, 9, 8, 7], 100) == [[0, 2, 3], [4], [1]]
    assert alike([10, 10, 10], 20) == [[0, 1], [2]]
    assert alike([50], 20) == [[0]]
