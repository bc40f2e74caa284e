"""What a generator drew and what it cost: kept in the cache, written as a folder, summed up in a record."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .cache import beside
from .measurement import Bench
from .records import dumps
from .samples import ListedSet
from .samples.arrays import from_images, from_texts
from .types import Batch, Generator, Timing


@dataclass(frozen=True)
class Generated:
    """What a generator drew, and how long it took."""

    samples: ListedSet
    timing: Timing


class Kept:
    """Batches joined: items, and the labels and prompts where all have one."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.groups: list[str] = []
        self.conditions: list[str] = []

    def add(self, batch: Batch) -> None:
        self.items.extend(batch.items)
        self.groups.extend(batch.groups or ())
        self.conditions.extend(batch.conditions or ())


def as_set(generator: Generator, kept: Kept) -> ListedSet:
    source = f"generator:{generator.name}"
    groups, conditions = kept.groups or None, kept.conditions or None
    if generator.modality == "image":
        return from_images(np.stack(kept.items), generator.name, groups, source, conditions)
    return from_texts(kept.items, generator.name, groups, source, conditions)


def remember(generator: Generator, key: str, bench: Bench, drawn: Generated) -> None:
    import torch

    timing = drawn.timing
    media = [s.load() for s in drawn.samples]
    notes = {
        "groups": [s.group for s in drawn.samples],
        "conditions": [s.condition for s in drawn.samples],
        "seconds": timing.seconds,
        "sizes": timing.sizes,
        "device": timing.device,
        "peak_bytes": timing.peak_bytes,
        "flops": timing.flops,
        "joules": timing.joules,
        "joules_for": timing.joules_for,
        "tokens": timing.tokens,
    }
    if generator.modality == "image":
        pixels = torch.from_numpy(np.stack([m for m in media if not isinstance(m, str)]))
        bench.cache.put_tensors("samples", key, {"images": pixels}, notes)
    else:
        bench.cache.put_json("samples", key, {**notes, "texts": media})


def recall(generator: Generator, key: str, bench: Bench) -> Generated | None:
    if generator.modality == "image":
        found = bench.cache.get_tensors("samples", key)
        if found is None:
            return None
        items, notes = list(found[0]["images"].numpy()), found[1]
    else:
        stored = bench.cache.get_json("samples", key)
        if stored is None:
            return None
        items, notes = stored["texts"], stored
    kept = Kept()
    kept.items = items
    kept.groups, kept.conditions = ([] if None in notes[key] else notes[key] for key in ("groups", "conditions"))
    timing = Timing(
        tuple(notes["seconds"]),
        tuple(notes["sizes"]),
        notes["device"],
        notes["peak_bytes"],
        notes["flops"],
        notes["joules"],
        notes["joules_for"],
        tokens=tuple(tuple(text) for text in notes["tokens"]),
    )
    return Generated(as_set(generator, kept), timing)


def write_samples(
    drawn: Generated, generator: Generator, folder: Path, facts: Mapping[str, Any], inputs: Sequence[str] = ()
) -> None:
    """Write samples as PNG files or one .txt each, with `set.json`; the folder appears whole or not at all.

    inputs: the id of what each sample was made of, where it was made of something.
    """
    from PIL import Image

    prompts, files = [], []
    with beside(folder) as draft:
        draft.mkdir()
        for i, sample in enumerate(drawn.samples):
            home = f"{_folder_name(sample.group)}/" if sample.group else ""
            (draft / home).mkdir(exist_ok=True)
            media = sample.load()
            files.append(f"{home}{i:06d}.{'txt' if isinstance(media, str) else 'png'}")
            if isinstance(media, str):
                (draft / files[-1]).write_text(media, "utf-8", newline="\n")
            else:
                Image.fromarray(media).save(draft / files[-1])
                if sample.condition is not None:
                    prompts.append(json.dumps({"file_name": files[-1], "text": sample.condition}, ensure_ascii=False))
        if prompts:
            (draft / "metadata.jsonl").write_text("\n".join(prompts) + "\n", "utf-8")
        about = {
            "schema": "evalkit.set/1",
            "generator": generator.name,
            "recipe": generator.recipe,
            "trained_on": generator.trained_on,
            "controls": dict(getattr(generator, "settings", {})),
            "digest": drawn.samples.digest,
            "n": len(drawn.samples),
            "timing": summary(drawn.timing),
            # The key a detector needs to find the mark again.
            **({"watermark": mark} if (mark := getattr(generator, "watermark", None)) else {}),
            **facts,
        }
        if inputs:
            about["made_of"] = dict(zip(files, inputs, strict=True))
        (draft / "set.json").write_text(dumps(about), "utf-8")


def _folder_name(group: str) -> str:
    """A label as the name of one folder: labels come with the data and may hold anything."""
    name = re.sub(r"[/\\\0]", "_", group)
    return name if name.strip(".") else "_"


def summary(timing: Timing) -> dict[str, Any]:
    """The timing block of a record: samples per second of whole batches, latency of single samples in milliseconds."""
    largest = max(timing.sizes)
    batches = [(s, n) for s, n in zip(timing.seconds, timing.sizes, strict=True) if n == largest]
    block: dict[str, Any] = {
        "samples_per_second": sum(n for _, n in batches) / max(sum(s for s, _ in batches), 1e-9),
        "batch_size": largest,
        "device": timing.device,
        "peak_bytes": timing.peak_bytes,
    }
    rates = {size: _rate(timing, size) for size in set(timing.sizes)}
    best = max(rates, key=lambda size: rates[size])
    block["best_batch"] = {"batch_size": best, "samples_per_second": rates[best]}
    if timing.joules is not None and timing.joules_for:
        block["joules_per_sample"] = timing.joules / timing.joules_for
    costs = {
        "flops_per_sample": timing.flops,
        "parameters": timing.parameters,
        "training_seconds": timing.training_seconds,
    }
    # What is not known is absent, not zero.
    block.update({key: value for key, value in costs.items() if value is not None})
    single = [1000 * s for s, n in zip(timing.seconds, timing.sizes, strict=True) if n == 1]
    if single:
        p50, p95, p99 = np.percentile(single, [50, 95, 99])
        block["latency_ms"] = {"p50": float(p50), "p95": float(p95), "p99": float(p99)}
    return block


def _rate(timing: Timing, size: int) -> float:
    """Samples a second of the calls of one size."""
    seconds = [s for s, n in zip(timing.seconds, timing.sizes, strict=True) if n == size]
    return size * len(seconds) / max(sum(seconds), 1e-9)
