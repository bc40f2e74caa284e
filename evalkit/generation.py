"""Runs a generator: trains it or finds it trained, keeps its samples and their timing; the only place it is timed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import registry
from .cache import beside, digest_of
from .errors import BadSource, EvalkitError, RunFailed, UnreadableSample
from .hardware import derive_seed, device_label, now, one_thread, peak_bytes, reset_peak
from .measurement import Bench
from .records import dumps
from .samples import ListedSet
from .samples.arrays import from_images, from_texts
from .types import Batch, Generator, SampleSet, Timing

LATENCY_CALLS = 20
THROUGHPUT_CALLS = 20
THROUGHPUT_SECONDS = 1.0


@dataclass(frozen=True)
class Generated:
    """What a generator drew, and how long it took."""

    samples: ListedSet
    timing: Timing


def trained(
    name: str, data: SampleSet, *, seed: int, bench: Bench, controls: Mapping[str, Any] | None = None
) -> Generator:
    """The generator `name` fitted to `data`: found again by content of the data and settings, trained otherwise.

    Raises UnknownName for an unknown generator or control, and what its `fit` raises.
    """
    make = registry.generators.get(name)
    generator: Generator = make(**dict(controls or {}))
    folder = bench.cache.folder("models", _model_key(generator, data.digest, seed))
    # The ceiling "learns" by holding real data: there is nothing to keep.
    if folder is None or generator.role == "ceiling":
        _fit(generator, data, seed, bench)
        return generator
    if (folder / "card.json").is_file():
        try:
            generator.load(folder)
        except EvalkitError:
            shutil.rmtree(folder, ignore_errors=True)
            generator = make(**dict(controls or {}))
        else:
            # A model read from disk lies on the CPU; its timing would carry the name of a device it never saw.
            generator.to(bench.device)
            return generator
    _fit(generator, data, seed, bench)
    with beside(folder) as draft:
        generator.save(draft)
    return generator


def generate(generator: Generator, n: int, seed: int, bench: Bench, *, model: str) -> Generated:
    """n samples of a trained generator with the timing of every call; found again by content of model and settings.

    model: what tells this fitted model from another of its recipe and data (its training seed, or its file's digest).

    Timing: one warm-up call, then the batches of the n samples, then single-sample calls for latency; the clock waits
    for the device.
    """
    settings = dict(getattr(generator, "settings", {}))
    # The device too: the timing is kept with the samples, and timings of two devices share no column.
    drawn_on = device_label(bench.device)
    key = digest_of("samples", generator.recipe, generator.trained_on, model, settings, n, seed, drawn_on)
    found = _recall(generator, key, bench)
    if found is not None:
        return found
    drawn = _draw(generator, n, seed, bench)
    _remember(generator, key, bench, drawn)
    return drawn


def write_samples(drawn: Generated, generator: Generator, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write samples as PNG files or one .txt each, with `set.json`; the folder appears whole or not at all."""
    from PIL import Image

    with beside(folder) as draft:
        draft.mkdir()
        for i, sample in enumerate(drawn.samples):
            home = draft / sample.group if sample.group else draft
            home.mkdir(exist_ok=True)
            media = sample.load()
            if isinstance(media, str):
                (home / f"{i:06d}.txt").write_text(media, "utf-8", newline="\n")
            else:
                Image.fromarray(media).save(home / f"{i:06d}.png")
        about = {
            "schema": "evalkit.set/1",
            "generator": generator.name,
            "recipe": generator.recipe,
            "trained_on": generator.trained_on,
            "controls": dict(getattr(generator, "settings", {})),
            "digest": drawn.samples.digest,
            "n": len(drawn.samples),
            "timing": summary(drawn.timing),
            **facts,
        }
        (draft / "set.json").write_text(dumps(about), "utf-8")


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
    single = [1000 * s for s, n in zip(timing.seconds, timing.sizes, strict=True) if n == 1]
    if single:
        p50, p95, p99 = np.percentile(single, [50, 95, 99])
        block["latency_ms"] = {"p50": float(p50), "p95": float(p95), "p99": float(p99)}
    return block


def _fit(generator: Generator, data: SampleSet, seed: int, bench: Bench) -> None:
    with one_thread() if _is_small(data) else nullcontext():
        generator.fit(data, seed=seed, device=bench.device, progress=bench.progress)


def _is_small(data: SampleSet) -> bool:
    """Whether the samples are images of at most 16x16 pixels, as far as the first readable one tells."""
    for sample in data:
        try:
            media = sample.load()
        except UnreadableSample:
            continue
        return not isinstance(media, str) and max(media.shape[:2]) <= 16
    return False


def _model_key(generator: Generator, data: str, seed: int) -> str:
    return digest_of("generator", generator.recipe, data, seed)


def _draw(generator: Generator, n: int, seed: int, bench: Bench) -> Generated:
    bench.progress.start(f"{generator.name}: sampling", n)
    reset_peak(bench.device)
    for _ in generator.sample(1, derive_seed(seed, "warm-up")):
        pass
    items: list[Any] = []
    groups: list[str] = []
    calls: list[tuple[float, int]] = []
    for batch, seconds in _timed(generator, n, seed, bench.device):
        calls.append((seconds, len(batch.items)))
        items.extend(batch.items)
        groups.extend(batch.groups or ())
        bench.progress.advance(len(batch.items))
    if len(items) != n:
        raise RunFailed(f"generator {generator.name!r} gave {len(items)} samples when asked for {n}")
    # Fast generators are asked again, for the clock only: a handful of calls is at the mercy of one interruption.
    again = 0
    while n > 1 and len(calls) < THROUGHPUT_CALLS and sum(s for s, _ in calls) < THROUGHPUT_SECONDS:
        again += 1
        extra = _timed(generator, n, derive_seed(seed, "again", str(again)), bench.device)
        calls += [(seconds, len(batch.items)) for batch, seconds in extra]
    for call in range(LATENCY_CALLS):
        calls += [(s, 1) for _, s in _timed(generator, 1, derive_seed(seed, "latency", str(call)), bench.device)]
    bench.progress.finish()
    times, sizes = zip(*calls, strict=True)
    timing = Timing(times, sizes, device_label(bench.device), peak_bytes(bench.device))
    return Generated(_as_set(generator, items, groups or None), timing)


def _timed(generator: Generator, n: int, seed: int, device: str) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds it took to make; what the caller does with it is not counted."""
    batches = generator.sample(n, seed)
    while True:
        start = now(device)
        batch = next(batches, None)
        seconds = now(device) - start
        if batch is None:
            return
        yield batch, seconds


def _as_set(generator: Generator, items: list[Any], groups: list[str] | None) -> ListedSet:
    source = f"generator:{generator.name}"
    if generator.modality == "image":
        return from_images(np.stack(items), generator.name, groups, source)
    return from_texts(items, generator.name, groups, source)


def _remember(generator: Generator, key: str, bench: Bench, drawn: Generated) -> None:
    import torch

    timing = drawn.timing
    media = [s.load() for s in drawn.samples]
    notes = {
        "groups": [s.group for s in drawn.samples],
        "seconds": timing.seconds,
        "sizes": timing.sizes,
        "device": timing.device,
        "peak_bytes": timing.peak_bytes,
    }
    if generator.modality == "image":
        pixels = torch.from_numpy(np.stack([m for m in media if not isinstance(m, str)]))
        bench.cache.put_tensors("samples", key, {"images": pixels}, notes)
    else:
        bench.cache.put_json("samples", key, {**notes, "texts": media})


def _recall(generator: Generator, key: str, bench: Bench) -> Generated | None:
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
    groups = None if None in notes["groups"] else notes["groups"]
    timing = Timing(tuple(notes["seconds"]), tuple(notes["sizes"]), notes["device"], notes["peak_bytes"])
    return Generated(_as_set(generator, items, groups), timing)


def load_generator(folder: Path, controls: Mapping[str, Any], bench: Bench) -> tuple[Generator, str]:
    """A trained generator from its model folder with its own settings, `controls` over them, and its card's digest.

    Raises BadSource when the folder is not a model folder, BadSetting for a control that would need another training.
    """
    try:
        text = (folder / "card.json").read_text("utf-8")
        card = json.loads(text)
        name, settings = str(card["name"]), dict(card["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSource(
            f"{folder} is not a generator folder (card.json: {error}); see `evalkit train generator`"
        ) from error
    generator: Generator = registry.generators.get(name)(**{**settings, **controls})
    generator.load(folder)
    generator.to(bench.device)
    return generator, digest_of(text)
