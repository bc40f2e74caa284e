"""Language models from files: llama2.c checkpoints and models of transformers, against loops over one text."""

from __future__ import annotations

import hashlib
import importlib
import math
import shutil
import struct
from itertools import pairwise

import numpy as np
import pytest
import torch

from evalkit import registry
from evalkit.errors import (
    BadSetting,
    BadSource,
    EvalkitError,
    ModalityMismatch,
    RunFailed,
    UnknownName,
    UnreadableSample,
)
from evalkit.extractors.causal import hub
from evalkit.extractors.causal.columns import PAIR, SINGLE_HEADS, ZERO_SHOT, named, slices
from evalkit.extractors.causal.hub import HubLM
from evalkit.extractors.causal.llama2c import Llama2c
from evalkit.extractors.causal.pair import PairLM
from evalkit.measurement import Bench, measure
from evalkit.planning import plan
from evalkit.types import Arranging, Extractor

from .data import shared
from .models import TEXTS, hub_folder, plain_loop
from .toys import texts

pytest.importorskip("transformers")
HEADS = slices(SINGLE_HEADS)
CHECKED = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {kind: hub_folder(root / kind, kind, begins=kind != "gpt2") for kind in ("gpt2", "llama", "granite")}


def rows(instrument, given):
    instrument.fetch()
    return instrument(instrument.arrange([instrument.prepare(text) for text in given]))


# ---------------------------------------------------------------------------------------------- transformers


@pytest.mark.parametrize("kind", ["gpt2", "llama", "granite"])
def test_a_row_equals_a_loop_over_one_text_and_does_not_depend_on_its_batch(folders, kind):
    instrument = HubLM(str(folders[kind]))
    assert isinstance(instrument, Extractor) and isinstance(instrument, Arranging)
    short = [TEXTS[0], TEXTS[1]]
    found = rows(instrument, TEXTS)
    # Granite divides its logits, so its head alone does not make them.
    assert (instrument.network.head is None) == (kind == "granite")
    torch.testing.assert_close(rows(instrument, short), found[:2], rtol=1e-5, atol=1e-5)
    model = importlib.import_module("transformers").AutoModelForCausalLM.from_pretrained(folders[kind]).float()
    for text, row in zip(short, found, strict=False):
        prepared = instrument.prepare(text)
        wanted = plain_loop(lambda ids: model(ids).logits, prepared[1:].tolist())
        own = {name: v.item() for name, v in named(row[None, HEADS["zero_shot"]], ZERO_SHOT).items()}
        for name in ("log_p", "rank", "entropy", "mu", "variance"):
            assert own[name] == pytest.approx(wanted[name].sum().item(), rel=1e-4)
        assert row[:3].tolist() == [pytest.approx(-own["log_p"]), len(prepared) - 2, len(text.encode())]


def test_the_prefix_is_the_beginning_else_the_end_else_none(folders):
    begins, ends = HubLM(str(folders["llama"])), HubLM(str(folders["gpt2"]))
    assert "beginning of a text, number 0" in begins.about["prefix"]
    assert "end of a text, number 0" in ends.about["prefix"]
    bare = HubLM(f"{folders['gpt2']}:prefix=none")
    assert len(bare.prepare(TEXTS[0])) == len(ends.prepare(TEXTS[0])) - 1
    assert len({begins.digest, ends.digest, bare.digest}) == 3
    with pytest.raises(UnreadableSample, match="too short"):
        bare.prepare("a")
    assert rows(ends, ["a"])[0, 1] == 1


def test_strided_windows_give_more_context_and_are_another_instrument(folders):
    rolled, wide = HubLM(str(folders["llama"])), HubLM(f"{folders['llama']}:stride=8")
    assert wide.about["stride"] == "8" and rolled.about["stride"] == "none"
    assert wide.digest != rolled.digest
    prepared = rolled.prepare(TEXTS[2])
    assert len(prepared) > 3 * rolled.context
    [series] = wide.token_statistics([prepared])
    model = importlib.import_module("transformers").AutoModelForCausalLM.from_pretrained(folders["llama"]).float()
    # Token 100 of the text is predicted in the first window that reaches it.
    start = next(s for s in range(0, 1000, 8) if s + 32 > 100)
    log_p = model(prepared[1:][None, start:100]).logits[0, -1].log_softmax(-1)
    assert series.log_p[99].item() == pytest.approx(log_p[prepared[101]].item(), abs=1e-4)
    assert len(series.log_p) == len(prepared) - 2


def test_the_digest_is_of_the_files_and_the_line_measures_it(folders, tmp_path):
    copy = tmp_path / "copy.v2"
    shutil.copytree(folders["gpt2"], copy)
    name = f"hf_lm:{copy}"
    assert HubLM(str(copy)).digest == HubLM(str(folders["gpt2"])).digest
    [task] = plan([f"perplexity@{name}"], "text", with_train=False, with_timing=False)
    assert task.instrument == name and registry.extractors.get(name)().name == name
    measured = measure(texts(*TEXTS, ""), [HubLM(str(copy))], Bench())
    assert len(measured.excluded) == 1
    assert measured.features[name].head("likelihood").rows.shape == (4, 3)
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    assert HubLM(str(copy)).digest != HubLM(str(folders["gpt2"])).digest


def test_models_that_cannot_be_had_are_one_clear_line(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")

    def refusal(variant):
        with pytest.raises(EvalkitError) as caught:
            HubLM(variant).fetch()
        assert "\n" not in str(caught.value)
        return caught.type, str(caught.value)

    assert refusal("") == (BadSetting, "hf_lm needs a model: write hf_lm:FOLDER or OWNER/NAME of the hub")
    assert refusal("nobody/nothing")[0] is RunFailed and "switched off" in refusal("nobody/nothing")[1]
    # What is no OWNER/NAME can only be a folder, and one that is missing is a mistake of the caller's.
    for place in ("./no/such/folder", "nofolder", "/no/folder", "~/no/folder", "~nobody/folder", "a/b/c"):
        kind, says = refusal(place)
        assert kind is BadSource and repr(place) in says and "OWNER/NAME" in says
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "model.safetensors").write_bytes(b"")
    kind, says = refusal(str(bare))
    assert kind is BadSource and "holds no tokenizer" in says and "save_pretrained" in says
    assert refusal(f"{folders['gpt2']}:context=33")[0] is BadSetting
    assert refusal(f"{folders['gpt2']}:strode=33")[0] is UnknownName
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    assert "pickles are not read" in refusal(str(tmp_path))[1]
    small = hub_folder(tmp_path / "small", vocabulary=100)
    assert "the model predicts 100; they do not belong together" in refusal(str(small))[1]
    broken = tmp_path / "broken"
    shutil.copytree(folders["gpt2"], broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(RunFailed, match=r"model in .* cannot be loaded"):
        HubLM(str(broken)).to("cpu")

    def absent(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(hub.importlib, "import_module", absent)
    assert "pip install 'evalkit[hf]'" in refusal(str(folders["gpt2"]))[1]


def test_texts_that_are_none_are_unreadable_and_odd_ones_are_read(folders):
    instrument = HubLM(str(folders["llama"]))
    for text, why in (("", "empty"), ("ab\ud800", "character 3 .* surrogate"), ("a" * (2**20 + 1), "split it")):
        with pytest.raises(UnreadableSample, match=why):
            instrument.prepare(text)
    with pytest.raises(ModalityMismatch):
        instrument.prepare(np.zeros((2, 2, 3), np.uint8))
    odd = ["\u202e\u05d0\u05d1 right to left \u200f", "\x00\x01", "e\u0301 \U0001f600 \u4e2d\u6587", " \n\t"]
    found = rows(instrument, odd)
    assert torch.isfinite(found).all() and found[:, 2].tolist() == [len(t.encode()) for t in odd]
    assert len(instrument.prepare("a" * 2**20)) > 2**18


# ---------------------------------------------------------------------------------------------- two models


def test_two_models_of_one_vocabulary_and_refusals(folders, tmp_path):
    other = hub_folder(tmp_path / "other", "gpt2", begins=False, seed=1)
    pair = PairLM(f"hf_lm:{folders['gpt2']}+hf_lm:{other}")
    found = rows(pair, TEXTS)
    alone = rows(HubLM(str(other)), TEXTS)
    torch.testing.assert_close(found[:, :3], alone[:, :3], rtol=1e-4, atol=1e-3)
    values = named(found[:, pair.heads["pair"]], PAIR)
    assert torch.equal(values["positions"], values["tokens"] + 1)
    assert (values["cross_entropy"] > -values["mu"]).all()
    assert pair.digest != PairLM(f"hf_lm:{other}+hf_lm:{folders['gpt2']}").digest
    with pytest.raises(BadSetting, match="share a tokenizer"):
        PairLM(f"hf_lm:{folders['gpt2']}+hf_lm:{folders['llama']}").fetch()
    with pytest.raises(BadSetting, match="give both the same"):
        PairLM(f"hf_lm:{folders['gpt2']}+hf_lm:{other}:stride=4").fetch()
    with pytest.raises(BadSetting, match="needs two models"):
        PairLM(f"hf_lm:{other}").fetch()


# ---------------------------------------------------------------------------------------------- llama2.c


@pytest.fixture(scope="module")
def stories():
    instrument = Llama2c(str(shared("weights", "stories260K")))
    instrument.fetch()
    return instrument


def test_the_stories_model_has_the_nats_that_were_computed_elsewhere(stories):
    [row] = rows(stories, [CHECKED])
    nats, tokens, size = row[:3].tolist()
    assert tokens == 31 and size == 92
    assert nats / tokens == pytest.approx(0.1803555, abs=1e-6)
    assert nats / size / math.log(2) == pytest.approx(0.0876754, abs=1e-6)


def test_the_stories_model_writes_its_documented_text(stories):
    """256 tokens after the one for the beginning; the digest is of the story as the model's documentation prints it."""
    story = stories.greedy(256)
    assert story.startswith(CHECKED) and story.endswith("Don't worry, Lily. We can help you.")
    digest = hashlib.sha256(story.encode()).hexdigest()
    assert digest == "30b2ffb07967932a88bfdf5e23b517a6f4cfcf7231db9e537360d3c12a4e4d10"


def test_joining_pieces_by_a_heap_equals_joining_the_best_pair_of_all(stories):
    model, tokenizer = (next(shared("weights", "stories260K").glob(f"{p}*.bin")) for p in ("stories", "tok"))
    content, at, pieces = tokenizer.read_bytes(), 4, []
    while at < len(content):
        score, length = struct.unpack_from("<fi", content, at)
        pieces.append((content[at + 8 : at + 8 + length], score))
        at += 8 + length
    number = {piece: i for i, (piece, _) in reversed(list(enumerate(pieces)))}
    for text in [*TEXTS, "aaaaaaa", "Lily\nand  Tom", "\u20ac5"]:
        tokens = []
        for c in " " + text:
            spelt = c.encode()
            tokens += [number[spelt]] if spelt in number else [b + 3 for b in spelt]
        while True:
            pairs = [(pieces[a][0] + pieces[b][0], i) for i, (a, b) in enumerate(pairwise(tokens))]
            known = [(-pieces[number[p]][1], i, number[p]) for p, i in pairs if p in number]
            if not known:
                break
            _, i, joined = min(known)
            tokens[i : i + 2] = [joined]
        assert stories.opened.encode(text) == tokens
        assert model.stat().st_size == 1056540


def test_llama2c_agrees_with_the_llama_of_transformers(stories):
    """The same weights in the other implementation, whose rotary pairs lie half a head apart."""
    transformers = importlib.import_module("transformers")
    config = transformers.LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=172, num_hidden_layers=5, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=True,
    )  # fmt: skip
    model, w = transformers.LlamaForCausalLM(config).eval(), stories.network._weights

    def apart(weight, heads):
        return weight.view(heads, 4, 2, 64).transpose(1, 2).reshape(-1, 64)

    names = {"embed_tokens.weight": w["embed"], "norm.weight": w["norm"]}
    for i in range(5):
        own = {"q": apart(w["q"][i], 8), "k": apart(w["k"][i], 4), "v": w["v"][i], "o": w["o"][i]}
        names |= {f"layers.{i}.self_attn.{key}_proj.weight": t for key, t in own.items()}
        names |= {f"layers.{i}.mlp.{key}_proj.weight": w[key][i] for key in ("gate", "up", "down")}
        names |= {f"layers.{i}.input_layernorm.weight": w["norm1"][i]}
        names |= {f"layers.{i}.post_attention_layernorm.weight": w["norm2"][i]}
    model.model.load_state_dict(names)
    tokens = stories.prepare(CHECKED)[None, 1:]
    with torch.no_grad():
        torch.testing.assert_close(
            stories.network.states(tokens, torch.tensor([32])),
            model.model(tokens).last_hidden_state,
            rtol=1e-4,
            atol=1e-4,
        )


def test_a_megabyte_is_cut_into_tokens_and_windows_in_seconds(stories):
    prepared = stories.prepare("a" * 2**20)
    windows = stories.settings.windows(len(prepared) - 1, stories.context)
    assert sum(w.stop - w.first + 1 for w in windows) == len(prepared) - 2


def test_files_that_are_no_whole_checkpoint_are_refused(stories, tmp_path):
    source = shared("weights", "stories260K")
    model, tokenizer = (next(source.glob(f"{p}*.bin")) for p in ("stories", "tok"))
    cut, few = tmp_path / "cut.bin", tmp_path / "few.bin"
    cut.write_bytes(model.read_bytes()[:-4])
    few.write_bytes(tokenizer.read_bytes()[:-15])
    for variant, why in (
        ("", "llama2c needs a model"),
        (str(tmp_path), "needs one tok"),
        (str(tmp_path / "nowhere"), "is no folder"),
        (f"{cut}+{tokenizer}", "which by its header has 1,056,540 bytes"),
        (f"{tokenizer}+{tokenizer}", "no whole llama2.c checkpoint"),
        (f"{model}+{few}", "does not fit the file|do not belong together"),
        (f"{model}+{tmp_path / 'no.bin'}", "cannot be read"),
    ):
        with pytest.raises((BadSetting, BadSource), match=why):
            Llama2c(variant).fetch()
    assert Llama2c(f"{model}+{tokenizer}").digest == stories.digest
