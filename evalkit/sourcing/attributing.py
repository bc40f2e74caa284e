"""Which source a sample comes from, or none of those known: attributors fitted, asked, and tried on unseen samples.

Two protocols. With samples to judge, the attributor learns from all of every source and judges them; content that it
learnt from is refused. Without, it learns from one half of every source by content and judges the other halves; and
with `leave_out` each source in turn is not shown to it at all, and its samples must come out as unknown.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import registry
from ..cache import FileDigests, beside, digest_of
from ..errors import BadSetting, BadSource, EvalkitError, UsageError
from ..hardware import one_thread
from ..measurement import Bench, measure
from ..publishing import check_study_outputs, publish_model, write_study
from ..samples import halves, open_samples
from ..types import Attributor, Excluded, SampleSet, Study
from .tables import UNKNOWN, LeftOut, Named, samples_table, study_of

GROUP, REAL = "group", "real"
DEFAULT = "fingerprint"
CARD = "card.json"


def attribute(
    source: Any = None,
    among: Sequence[tuple[str, Any]] = (),
    *,
    real: Any = None,
    by: Path | str = DEFAULT,
    truth: str | None = None,
    keep: Path | None = None,
    leave_out: bool = False,
    outputs: Sequence[Path] = (),
    seed: int = 0,
    bench: Bench | None = None,
) -> Study:
    """The source of every sample of `source` among the named ones, or `unknown`; where the truth is known, how well.

    among: (name, source of samples) pairs. real: samples that are known as "real", one more source. by: an attributor's
    name, or the folder of a kept one, which then takes neither `among` nor `real`. truth: a source's name, "group" (the
    samples' own labels), or a .csv with columns id and label. keep: a folder to save the attributor in. Without
    `source`, every source is judged by what was learnt from its other half. Raises UsageError, one line, for names
    given twice, fewer than two sources, content in common, and what the attributor refuses.
    """
    bench = bench or Bench()
    check_study_outputs(outputs)
    kept = load_attributor(by, bench.device) if Path(by).is_dir() else None
    sets = _opened([*among, *([(REAL, real)] if real is not None else [])], bench)
    if kept is not None and (sets or source is None or leave_out or keep is not None):
        raise UsageError(f"{by} is a fitted attributor; give it only the SOURCE to judge")
    if kept is None and len(sets) < 2:
        raise BadSetting(f"{len(sets)} source to attribute to; give two or more as --among NAME=SOURCE (or --real)")
    if source is None:
        found, excluded, tried, model = _on_halves(by, sets, leave_out, seed, bench)
    else:
        if leave_out:
            raise UsageError("--leave-out judges the other halves of the sources; give no SOURCE")
        samples = open_samples(source, modality="image", digests=FileDigests(bench.cache.root))
        _apart(samples, sets)
        labels = None if truth is None else _labels(truth, samples)
        model = kept if kept is not None else trained(str(by), sets, seed=seed, bench=bench)
        found, excluded = named(model, samples, bench, labels)
        tried = ()
    if keep is not None:
        publish_model(model, keep)  # type: ignore[arg-type]  # it asks for no more than `save`
    study = study_of(model, found, excluded, tried, source is None, bench.device)
    for file in outputs:
        whole = replace(study, exhibits=(*study.exhibits[:-1], samples_table(found, None)))
        write_study(whole if file.suffix == ".csv" else study, [file])
    return study


def trained(name: str, sets: Mapping[str, SampleSet], *, seed: int, bench: Bench) -> Attributor:
    """The attributor `name` fitted on named sources: found again by content, fitted otherwise.

    Raises UsageError when `name` is a detector that tells fake from real only.
    """
    model = _made(name)
    contents = {source: samples.digest for source, samples in sets.items()}
    folder = bench.cache.folder("models", digest_of("attributor", model.recipe, list(contents.items()), seed))
    if folder is not None and (folder / CARD).is_file():
        try:
            model.load(folder)
        except EvalkitError:
            shutil.rmtree(folder, ignore_errors=True)
            model = _made(name)
        else:
            model.to(bench.device)
            return model
    bench.progress.start(f"{name}: learning {', '.join(sets)}", 1)
    with one_thread():
        model.fit_sources(sets, seed=seed, device=bench.device)
    bench.progress.finish()
    if folder is not None:
        with beside(folder) as draft:
            model.save(draft)
    return model


def named(
    model: Attributor, samples: SampleSet, bench: Bench, labels: Mapping[str, str] | None = None
) -> tuple[tuple[Named, ...], tuple[Excluded, ...]]:
    """Where a fitted attributor places every readable sample; labels: the true source by sample id.

    Raises BadSource when the attributor was fitted on one of the samples.
    """
    for sample in samples:
        if model.has_seen(sample.digest):
            raise BadSource(f"the attributor was fitted on {sample.id} of {samples.name!r}; judge other samples")
    side = measure(samples, [model], bench)
    features = side.features[model.name]
    scores, usual = (features.head(head).rows for head in ("sources", "typicality"))
    found = []
    for i, sample in enumerate(side.samples):
        k = int(scores[i].argmax())
        best, typicality = model.sources[k], float(usual[i, k])
        verdict = UNKNOWN if typicality < model.reject else best
        found.append(Named(sample, best, float(scores[i, k]), typicality, verdict, (labels or {}).get(sample.id)))
    return tuple(found), side.excluded


Tried = tuple[tuple[Named, ...], tuple[Excluded, ...], tuple[LeftOut, ...], Attributor]


def _on_halves(by: Path | str, sets: Mapping[str, SampleSet], leave_out: bool, seed: int, bench: Bench) -> Tried:
    """Every source judged by its other half, and each by attributors that never saw it."""
    if leave_out and len(sets) < 3:
        raise BadSetting(f"--leave-out with {len(sets)} sources leaves one to know; give three or more")
    parts = {name: halves(samples) for name, samples in sets.items()}
    learnt, asked = ({name: part[side] for name, part in parts.items()} for side in (0, 1))
    model = trained(str(by), learnt, seed=seed, bench=bench)
    found: list[Named] = []
    excluded: list[Excluded] = []
    for name, samples in asked.items():
        here, out = named(model, samples, bench)
        found += [replace(one, truth=name) for one in here]
        excluded += out
    tried = []
    for left in sets if leave_out else ():
        other = trained(str(by), {name: s for name, s in learnt.items() if name != left}, seed=seed, bench=bench)
        shown = {name: tuple(replace(x, truth=name) for x in named(other, s, bench)[0]) for name, s in asked.items()}
        known = tuple(one for name, ones in shown.items() if name != left for one in ones)
        tried.append(LeftOut(left, shown[left], known))
    return tuple(found), tuple(excluded), tuple(tried), model


def _made(name: str) -> Attributor:
    model = registry.detectors.get(name)()
    if not isinstance(model, Attributor):
        raise UsageError(f"{name!r} tells fake from real and no more; attribute with {DEFAULT} or source_probe")
    return model


def load_attributor(folder: Path | str, device: str) -> Attributor:
    """The fitted attributor of a folder."""
    try:
        name = str(json.loads((Path(folder) / CARD).read_text("utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSource(f"{folder} is no attributor folder ({CARD}: {error}); make one with --keep") from error
    model = _made(name)
    model.load(Path(folder))
    model.to(device)
    return model


def _opened(pairs: Sequence[tuple[str, Any]], bench: Bench) -> dict[str, SampleSet]:
    twice = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
    if twice:
        raise BadSetting(f"the source {twice[0]!r} is named twice; give each its own name")
    if reserved := [name for name, _ in pairs if name in (UNKNOWN, GROUP, "")]:
        raise BadSetting(f"a source cannot be called {reserved[0]!r}; choose another name")
    digests = FileDigests(bench.cache.root)
    return {name: open_samples(place, modality="image", name=name, digests=digests) for name, place in pairs}


def _apart(samples: SampleSet, sets: Mapping[str, SampleSet]) -> None:
    """Refuse to judge what is learnt from."""
    asked = {sample.digest for sample in samples}
    for name, known in sets.items():
        shared = sum(sample.digest in asked for sample in known)
        if shared:
            raise BadSource(
                f"{shared} samples of {name!r} are among those to judge; take them out, or give no SOURCE to judge the"
                " other half of every source"
            )


def _labels(truth: str, samples: SampleSet) -> dict[str, str]:
    """The true source of samples by id."""
    if truth == GROUP:
        found = {sample.id: sample.group for sample in samples if sample.group}
        if not found:
            raise UsageError(f"--truth {GROUP}: the samples of {samples.name!r} have no labels (class folders)")
        return found
    if not truth.endswith(".csv"):
        return {sample.id: truth for sample in samples}
    try:
        rows = list(csv.DictReader(Path(truth).read_text("utf-8-sig").splitlines()))
        known = {row["id"]: row["label"].strip() for row in rows if row["label"].strip()}
    except (OSError, UnicodeDecodeError, csv.Error, AttributeError) as error:
        raise BadSource(f"cannot read truth file {truth!r}: {error}") from error
    except KeyError as error:
        raise BadSource(f"truth file {truth!r} has no column {error}; expected id and label") from error
    if not any(sample.id in known for sample in samples):
        first = next(iter(samples)).id
        raise BadSource(f"truth file {truth!r} names none of the {len(samples)} samples, such as {first!r}")
    return known
