"""Pretrained pipelines and language models: loaded without code or pickles, asked in batches."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evalkit.errors import BadSetting, BadSource, RunFailed

from .data import shared
from .externals import (
    StubLm,
    StubPipeline,
    fit,
)
from .quick import drawn, one_line

# The fixtures that stand in for what others made.
pytest_plugins = ("tests.externals",)

# ---------------------------------------------------------------------------------------------- diffusers


def test_a_pipeline_is_loaded_without_code_or_pickles_and_asked_in_small_batches(
    stub: type[StubPipeline], works: Callable[..., Any]
) -> None:
    generator = fit("diffusers", **works("diffusers"), steps=7, guidance=3, batch=4)
    assert stub.calls == []
    [batch] = generator.sample(6, 1)
    load, *_, first, second = stub.calls
    assert load["use_safetensors"] is True and load["trust_remote_code"] is False and load["local_files_only"] is True
    assert first == {"prompt": ["a cat", "a dog"] * 2, "steps": 7, "guidance": 3.0}
    assert second["prompt"] == ["a cat", "a dog"]
    assert batch.conditions == ["a cat", "a dog"] * 3
    assert batch.items.shape == (6, 4, 4, 3)
    one_at_a_time = fit("diffusers", **works("diffusers"), batch=1)
    assert drawn(one_at_a_time, 6) == drawn(generator, 6)
    assert sum("load" in c for c in stub.calls) == 2


def test_a_model_folder_with_code_and_a_hub_that_is_off_are_refused(
    stub: type[StubPipeline], works: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_OFFLINE", "1")
    with pytest.raises(RunFailed, match="switched off") as error:
        list(fit("diffusers", model="someone/something", prompts=works("diffusers")["prompts"]).sample(1, 0))
    one_line(error)
    assert stub.calls[-1]["local_files_only"] is True and stub.calls[-1]["trust_remote_code"] is False
    (tmp_path / "hub" / "unet").mkdir()
    (tmp_path / "hub" / "unet" / "evil.py").write_text("raise SystemExit")
    with pytest.raises(BadSource, match=r"unet/evil\.py"):
        list(fit("diffusers", **works("diffusers")).sample(1, 0))
    assert not any("load" in c for c in stub.calls)


def test_prompts_are_asked_for_and_values_that_are_no_numbers_refused(
    stub: type[StubPipeline], works: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadSetting, match="prompts=FILE"):
        list(fit("diffusers", model=works("diffusers")["model"]).sample(1, 0))
    with pytest.raises(BadSetting, match="expected a text file"):
        fit("diffusers", model="m", prompts="/nowhere")
    monkeypatch.setattr(torch, "rand", lambda n, generator: torch.full((n,), float("nan")))
    with pytest.raises(RunFailed, match="not finite"):
        list(fit("diffusers", **works("diffusers")).sample(1, 0))


def test_a_real_tiny_pipeline_makes_the_same_images_whatever_the_batch(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="the extra 'diffusers' is not installed")
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    net = diffusers.UNet2DModel(8, 3, 3, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4, **blocks)
    diffusers.DDPMPipeline(net, diffusers.DDPMScheduler(num_train_timesteps=20)).save_pretrained(tmp_path / "m")
    generator = fit("diffusers", model=str(tmp_path / "m"), steps=3)
    [batch] = generator.sample(6, 1)
    assert batch.items.shape == (6, 8, 8, 3) and batch.items.std() > 10
    assert drawn(generator, 6, 1) == drawn(generator, 6, 1) != drawn(generator, 6, 2)
    alone = fit("diffusers", model=str(tmp_path / "m"), steps=3, batch=1)
    [apart] = alone.sample(6, 1)
    # Sums over another batch may round otherwise.
    assert np.abs(apart.items.astype(int) - batch.items).max() <= 1
    weights = next((tmp_path / "m" / "unet").glob("*.safetensors"))
    torch.save(net.state_dict(), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(RunFailed, match="safetensors"):
        list(fit("diffusers", model=str(tmp_path / "m")).sample(1, 0))


# ---------------------------------------------------------------------------------------------- transformers


def test_a_language_model_is_loaded_without_code_and_samples_plainly(
    stub_lm: type[StubLm], works: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "true")
    generator = fit("transformers", **works("transformers"), temperature=0.5, top_p=0.9, batch=4)
    [batch] = generator.sample(6, 1)
    tokenizer, model, first, second = stub_lm.calls
    assert all(c["trust_remote_code"] is False and c["local_files_only"] is True for c in (tokenizer, model))
    assert model["use_safetensors"] is True
    assert (first["asked"], second["asked"]) == ((4, 4), (2, 4))
    wanted = {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "top_k": 0, "max_new_tokens": 12, "pad_token_id": 27}
    assert wanted.items() <= first.items()
    assert all(len(t) == 12 for t in batch.items) and len(set(batch.items)) == 6
    assert batch.conditions == ["Once"] * 6
    without = fit("transformers", model=works("transformers")["model"])
    assert next(without.sample(2, 1)).conditions is None
    assert stub_lm.calls[-1]["asked"] == (2, 1)


def test_a_blank_text_is_drawn_again_and_nothing_but_blanks_is_told(
    stub_lm: type[StubLm], works: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub_lm, "blank_first", True)
    generator = fit("transformers", **works("transformers"), batch=3)
    with pytest.raises(RunFailed, match="nothing but blanks"):
        # The last one of a batch is drawn alone, and alone it is always the first.
        list(generator.sample(3, 1))
    monkeypatch.setattr(stub_lm, "batch_decode", lambda self, ids, skip_special_tokens: ["x", " "][: len(ids)])
    assert next(generator.sample(2, 1)).items == ["x", "x"]


def stories(folder: Path) -> str:
    """The 260 thousand parameters of a published story model, as transformers keeps them."""
    transformers = pytest.importorskip("transformers", reason="the extra 'transformers' is not installed")
    tokenizers = pytest.importorskip("tokenizers")
    raw = shared("weights", "stories260K", "stories260K_repaired.bin").read_bytes()
    D, F, L, heads, kv, V, T = struct.unpack("7i", raw[:28])
    flat = torch.from_numpy(np.frombuffer(raw, "<f4", offset=28).copy())
    head = D // heads
    shapes = {
        "embed_tokens": (V, D), "input_layernorm": (L, D), "self_attn.q_proj": (L, heads * head, D),
        "self_attn.k_proj": (L, kv * head, D), "self_attn.v_proj": (L, kv * head, D), "self_attn.o_proj": (L, D, D),
        "post_attention_layernorm": (L, D), "mlp.gate_proj": (L, F, D), "mlp.down_proj": (L, D, F),
        "mlp.up_proj": (L, F, D), "norm": (D,),
    }  # fmt: skip
    state: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        weight, flat = flat[: np.prod(shape)].view(shape), flat[np.prod(shape) :]
        if name[-6:] in ("q_proj", "k_proj"):
            # Rotary positions: pairs of neighbours there, of halves here.
            weight = weight.view(L, -1, head // 2, 2, D).transpose(2, 3).reshape(shape)
        if name in ("embed_tokens", "norm"):
            state[f"model.{name}.weight"] = weight
        else:
            state |= {f"model.layers.{i}.{name}.weight": weight[i] for i in range(L)}
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=D, intermediate_size=F, num_hidden_layers=L, num_attention_heads=heads,
        num_key_value_heads=kv, max_position_embeddings=T, rms_norm_eps=1e-5, tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    assert model.load_state_dict(state, strict=False).unexpected_keys == []
    model.save_pretrained(folder)
    packed, at, pieces = shared("weights", "stories260K", "tok512_t260.bin").read_bytes(), 4, {}
    for i in range(V):
        size = struct.unpack("<i", packed[at + 4 : at + 8])[0]
        piece = packed[at + 8 : at + 8 + size].decode("utf-8", "replace")
        pieces[piece if piece not in pieces else f"<{i}>"] = i
        at += 8 + size
    # Pieces are only put together here, so it needs no merges.
    own = tokenizers.Tokenizer(tokenizers.models.BPE(pieces, [], unk_token="<unk>"))
    own.decoder = tokenizers.decoders.Fuse()
    tokens = {"bos_token": "\n<s>\n", "eos_token": "\n</s>\n", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=own, **tokens).save_pretrained(folder)
    return str(folder)


def test_a_real_small_language_model_tells_its_published_story(tmp_path: Path) -> None:
    """Next to no temperature is the greedy text that was published with the weights."""
    model = stories(tmp_path)
    dull = fit("transformers", model=model, temperature=0.01, max_new_tokens=31)
    story = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    assert drawn(dull, 2)[0] == [story] * 2
    lively = fit("transformers", model=model, max_new_tokens=31)
    assert len(set(drawn(lively, 5)[0])) == 5
    assert drawn(lively, 5) == drawn(lively, 5)
