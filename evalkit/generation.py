"""Runs a generator: trains it or finds it trained, keeps its samples and their timing; the only place it is timed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import registry
from .cache import beside, digest_of
from .critic import DetectorCritic
from .drawings import Generated, Kept, as_set, recall, remember
from .errors import BadSource, EvalkitError, ModalityMismatch, RunFailed, UnreadableSample, UsageError
from .hardware import derive_seed, device_label, joules, now, one_thread, peak_bytes, reset_peak
from .measurement import Bench
from .types import Batch, Criticised, Generator, Given, SampleSet, Streaming, Timing

LATENCY_CALLS = 20
# Of texts streamed for the clock: fewer than the first once the seconds have passed, never fewer than the second.
STREAMED_TEXTS, STREAMED_LEAST, STREAMED_SECONDS = 20, 5, 2.0
# Batch sizes tried beside single samples and whole batches, to find the one that makes most samples a second.
MIDDLE_SIZES, MIDDLE_CALLS = (4, 16), 3
THROUGHPUT_CALLS = 20
THROUGHPUT_SECONDS = 1.0


class Unfinished(RunFailed):
    """A training that failed and left a model that draws: `generator` is its last sound state."""

    def __init__(self, message: str, generator: Generator) -> None:
        super().__init__(message)
        self.generator = generator


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

    Timing: one warm-up call, then the batches of the n samples, then single-sample calls for latency, then texts token
    by token where the generator streams them, after a warm-up of their own; the clock waits for the device.
    """
    settings = dict(getattr(generator, "settings", {}))
    # The device too: the timing is kept with the samples, and timings of two devices share no column.
    drawn_on = device_label(bench.device)
    key = digest_of("samples/3", generator.recipe, generator.trained_on, model, settings, n, seed, drawn_on)
    found = recall(generator, key, bench)
    if found is not None:
        return _with_costs(found, generator)
    drawn = _draw(generator, n, seed, bench)
    remember(generator, key, bench, drawn)
    return _with_costs(drawn, generator)


def check_given(generator: Generator, inputs: SampleSet) -> None:
    """UsageError for a generator that is given nothing, ModalityMismatch for inputs of another modality.

    BadSource for an input that cannot be read: a sample for each of them is promised.
    """
    if not isinstance(generator, Given):
        raise UsageError(f"{generator.name} makes samples of nothing but a seed; leave --input out")
    if inputs.modality != generator.takes:
        raise ModalityMismatch(
            f"{generator.name} takes {generator.takes} samples, {inputs.name!r} holds {inputs.modality}"
        )
    for sample in inputs:
        try:
            sample.load()
        except UnreadableSample as error:
            raise BadSource(f"{inputs.name!r}: {sample.id} cannot be read ({error}); remove it") from error


def generate_given(generator: Generator, inputs: SampleSet, seed: int, bench: Bench) -> Generated:
    """One sample for each input, in their order, with the timing of every batch.

    Raises what `check_given` raises.
    """
    check_given(generator, inputs)
    assert isinstance(generator, Given)
    bench.progress.start(f"{generator.name}: {inputs.name}", len(inputs))
    reset_peak(bench.device)
    kept, calls = Kept(), []
    for batch, seconds in _clocked(generator.sample_given(inputs, seed), bench.device):
        calls.append((seconds, len(batch.items)))
        kept.add(batch)
        bench.progress.advance(len(batch.items))
    bench.progress.finish()
    if len(kept.items) != len(inputs):
        raise RunFailed(f"generator {generator.name!r} gave {len(kept.items)} samples for {len(inputs)} inputs")
    if generator.takes == "text" and not kept.conditions:
        kept.conditions = [str(s.load()) for s in inputs]
    times, sizes = zip(*calls, strict=True)
    timing = Timing(times, sizes, device_label(bench.device), peak_bytes(bench.device))
    return _with_costs(Generated(as_set(generator, kept), timing), generator)


def _with_costs(drawn: Generated, generator: Generator) -> Generated:
    """The timing with what the model itself knows: how much it learnt, and how long that took."""
    known = replace(
        drawn.timing,
        parameters=getattr(generator, "parameters", None),
        training_seconds=getattr(generator, "training_seconds", None),
    )
    return Generated(drawn.samples, known)


def _fit(generator: Generator, data: SampleSet, seed: int, bench: Bench) -> None:
    critic = str(getattr(generator, "settings", {}).get("critic", ""))
    if critic and isinstance(generator, Criticised):
        generator.take_critic(DetectorCritic(critic, data, seed=derive_seed(seed, "critic"), device=bench.device))
    with one_thread() if _is_small(data) else nullcontext():
        start = now(bench.device)
        try:
            generator.fit(data, seed=seed, device=bench.device, progress=bench.progress)
        except RunFailed as error:
            # Only a sound state has learned from something.
            raise (Unfinished(str(error), generator) if generator.trained_on else error) from error
        # A ceiling is never kept: its seconds would differ from run to run, and mean nothing.
        if hasattr(generator, "training_seconds") and generator.role != "ceiling":
            generator.training_seconds = now(bench.device) - start


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
    for_the_clock = not getattr(generator, "costly", False)
    for _ in generator.sample(1, derive_seed(seed, "warm-up")) if for_the_clock else ():
        pass
    kept, calls = Kept(), []
    before = joules(bench.device)
    for batch, seconds in _timed(generator, n, seed, bench.device):
        calls.append((seconds, len(batch.items)))
        kept.add(batch)
        bench.progress.advance(len(batch.items))
    after = joules(bench.device)
    if len(kept.items) != n:
        raise RunFailed(f"generator {generator.name!r} gave {len(kept.items)} samples when asked for {n}")
    flops: float | None = None
    tokens: tuple[tuple[float, ...], ...] = ()
    if for_the_clock:
        calls += _more_calls(generator, n, calls, seed, bench.device)
        flops = _flops(generator, max(size for _, size in calls), seed)
        tokens = _streamed(generator, seed, bench.device)
    bench.progress.finish()
    times, sizes = zip(*calls, strict=True)
    timing = Timing(
        times,
        sizes,
        device_label(bench.device),
        peak_bytes(bench.device),
        flops,
        # A meter that wrapped around meanwhile says nothing.
        after - before if before is not None and after is not None and after > before else None,
        n,
        tokens=tokens,
    )
    return Generated(as_set(generator, kept), timing)


def _more_calls(
    generator: Generator, n: int, calls: list[tuple[float, int]], seed: int, device: str
) -> list[tuple[float, int]]:
    """Calls for the clock only: whole batches again where there were few, single samples, batches between the two."""
    more: list[tuple[float, int]] = []
    # A handful of calls is at the mercy of one interruption.
    again = 0
    while n > 1 and len(calls) + len(more) < THROUGHPUT_CALLS and sum(s for s, _ in calls + more) < THROUGHPUT_SECONDS:
        again += 1
        extra = _timed(generator, n, derive_seed(seed, "again", str(again)), device)
        more += [(seconds, len(batch.items)) for batch, seconds in extra]
    for call in range(LATENCY_CALLS):
        more += [(s, 1) for _, s in _timed(generator, 1, derive_seed(seed, "latency", str(call)), device)]
    for size in MIDDLE_SIZES:
        for call in range(MIDDLE_CALLS if size < n else 0):
            own = derive_seed(seed, "middle", str(size), str(call))
            more.append((sum(t for _, t in _timed(generator, size, own, device)), size))
    return more


def _streamed(generator: Generator, seed: int, device: str) -> tuple[tuple[float, ...], ...]:
    """Seconds from the request of a text to each of its tokens, of up to 20 texts; the warm-up text is left out."""
    if not isinstance(generator, Streaming):
        return ()
    found = []
    begun = now(device)
    for call in range(STREAMED_TEXTS + 1):
        start = now(device)
        if call > STREAMED_LEAST and start - begun > STREAMED_SECONDS:
            break
        found.append(tuple(now(device) - start for _ in generator.stream(derive_seed(seed, "stream", str(call)))))
    return tuple(text for text in found[1:] if text)


def _flops(generator: Generator, size: int, seed: int) -> float | None:
    """Floating-point operations of torch's matrix products and convolutions for one sample of a batch of `size`."""
    from torch.utils.flop_counter import FlopCounterMode

    if getattr(generator, "parameters", None) == 0:
        return None  # no network: and the counter's first use loads torch's compiler, which takes seconds
    with FlopCounterMode(display=False) as counter:
        batch = next(generator.sample(size, seed))
    return counter.get_total_flops() / len(batch.items) or None


def _timed(generator: Generator, n: int, seed: int, device: str) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds it took to make; what the caller does with it is not counted."""
    return _clocked(generator.sample(n, seed), device)


def _clocked(batches: Iterator[Batch], device: str) -> Iterator[tuple[Batch, float]]:
    while True:
        start = now(device)
        batch = next(batches, None)
        seconds = now(device) - start
        if batch is None:
            return
        yield batch, seconds


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
