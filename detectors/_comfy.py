"""ComfyUI's graphs: which samplers, seeds and models the nodes of a `prompt` (or of a `workflow` alone) name.

A `prompt` maps node numbers to {"class_type", "inputs"}; an input is a value or a link [node, output]. A `workflow` is
the drawing of the same graph, its nodes with positional `widgets_values`: read only where there is no `prompt`, and
only for what the two widespread nodes (CheckpointLoader..., KSampler...) say. Links are not followed: a graph may be
deep, circular or of custom nodes, and what is written down is enough to name the tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._objects import listed, mapping, word

MOST_NODES, MOST_NAMED = 5_000, 16
MODEL_INPUTS = ("ckpt_name", "unet_name", "model_name")
SEED_INPUTS = ("seed", "noise_seed")


def graph_of(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """samplers, seeds, models and the longest prompt of a graph; None when the object is no graph of ComfyUI."""
    if found is None:
        return None
    if isinstance(found.get("nodes"), list) and ("links" in found or "last_node_id" in found):
        return _drawn([mapping(node) for node in listed(found["nodes"], MOST_NODES)])
    nodes = [mapping(node) for node in list(found.values())[:MOST_NODES]]
    nodes = [node for node in nodes if isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)]
    return _executed(nodes) if nodes else None


def _executed(nodes: list[Mapping[str, Any]]) -> dict[str, Any]:
    samplers, seeds, models, texts = [], [], [], [""]
    for node in nodes:
        inputs = node["inputs"]
        samplers.append(word(inputs.get("sampler_name")))
        seeds += [word(inputs.get(name)) for name in SEED_INPUTS]
        if "upscale" not in node["class_type"].casefold():
            models += [word(inputs.get(name)) for name in MODEL_INPUTS]
        if isinstance(inputs.get("text"), str):
            texts.append(inputs["text"])
    return _found(samplers, seeds, models, texts)


def _drawn(nodes: list[Mapping[str, Any]]) -> dict[str, Any]:
    samplers: list[str] = []
    seeds, models, texts = [], [], [""]
    for node in nodes:
        kind, values = str(node.get("type", "")), listed(node.get("widgets_values"))
        if not values:
            continue
        if kind.startswith("CheckpointLoader"):
            models.append(word(values[0]))
        elif kind.startswith("KSampler"):
            seeds += [word(value) for value in values[:2] if isinstance(value, int) and not isinstance(value, bool)]
        elif kind == "CLIPTextEncode" and isinstance(values[0], str):
            texts.append(values[0])
    return _found(samplers, seeds, models, texts)


def _found(samplers: list[str], seeds: list[str], models: list[str], texts: list[str]) -> dict[str, Any]:
    def once(names: list[str]) -> list[str]:
        return list(dict.fromkeys(filter(None, names)))[:MOST_NAMED]

    return {
        "samplers": once(samplers),
        "seeds": once(seeds),
        "models": once(models),
        "prompt": max(texts, key=len),
    }
