"""Texts that detectors score here and now: rows of a file with their text, and again behind every attack."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..attacking import TextAttack
from ..detection import load_detector
from ..errors import BadSource
from ..measurement import Bench, measure
from ..samples import ListedSet
from ..samples._transformed import transformed
from ..samples.arrays import from_texts
from ..types import Detector, Excluded
from .joining import told
from .reading import fields_of, read_columns, roles_of, truth_of
from .recorded import Array, Recorded, attack_of, both_sides


def scored_texts(
    path: Path,
    detectors: Sequence[Path | str],
    *,
    attacks: Sequence[TextAttack] = (),
    columns: Mapping[str, str] | None = None,
    truth: str | None = None,
    labelled: bool = False,
    bench: Bench | None = None,
    seed: int = 0,
) -> tuple[list[Recorded], list[tuple[str, Excluded]], dict[str, str]]:
    """P(fake) of every text under every detector, a run each; with attacks, every text again behind each of them.

    truth: as `joining.told` reads it. labelled: refuse, before anything is judged, a file whose texts are not all known
    to be human or machine, two of each at least. With attacks a run's field `attack` names what was done ("none"
    first); human texts are attacked too. Also what could not be read, and the digests for a provenance. Raises
    BadSource for a file without texts or with attacked ones where attacks are asked for, ModalityMismatch for a
    detector of images.
    """
    bench = bench or Bench()
    whole, texts = _texts(path, columns or {})
    (whole,) = told([whole], truth)
    if labelled:
        both_sides(whole)
    judges = [load_detector(place, device=bench.device, modality="text") for place in detectors]
    if attacks and any(attack_of(word) != "none" for word in whole.fields.get("attack", ())):
        raise BadSource(f"{path}: some texts are attacked already (column attack); leave --attacks out, or them")
    samples = from_texts(texts, path.stem, source=str(path))
    clean = replace(whole, fields={**whole.fields, "attack": ["none"] * len(whole)}) if attacks else whole
    runs, excluded = [], []
    for judge in judges:
        scores, gone = _scores(judge, samples, bench)
        parts = [replace(clean, name=judge.name, scores=scores)]
        excluded += [(judge.name, out) for out in gone]
        for attack in attacks:
            behind = transformed(samples, attack, attack.recipe, seed=seed, modality="text")
            scores, gone = _scores(judge, behind, bench)
            excluded += [(f"{judge.name}, {attack.name}", out) for out in gone]
            fields = {**clean.fields, "attack": [attack.name] * len(whole)}
            ids = [f"{name}/{attack.name}" for name in whole.ids]
            parts.append(replace(clean, name=judge.name, scores=scores, fields=fields, ids=ids))
        runs.append(_joined(parts))
    digests = {f"detector {j.name}": f"{j.digest}; trained on {j.trained_on or 'unknown'}" for j in judges}
    return runs, excluded, {"texts": f"{path.name}, n = {len(texts)}, {samples.digest}", **digests}


def _texts(path: Path, named: Mapping[str, str]) -> tuple[Recorded, list[str]]:
    """A file's rows without scores, and their texts."""
    columns = read_columns(path)
    roles = roles_of(path, columns, named)
    if "text" not in roles:
        raise BadSource(f"{path} has columns {', '.join(map(str, list(columns)[:12]))}; expected a column text")
    texts = columns[roles["text"]]
    wrong = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        raise BadSource(f"{path}: row {wrong + 1} has no text but {type(texts[wrong]).__name__}")
    ids = [str(x) for x in columns[roles["id"]]] if "id" in roles else [f"row-{i + 1}" for i in range(len(texts))]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    fields = {name: words for name, words in fields_of(columns, roles).items() if name != "detector"}
    unknown = np.full(len(texts), np.nan)
    return Recorded(path.stem, unknown, truth_of(path, columns, roles), ids, fields, digest=f"sha256:{digest}"), texts


def _scores(judge: Detector, samples: ListedSet, bench: Bench) -> tuple[Array, tuple[Excluded, ...]]:
    """P(fake) [N] in the order of the samples, NaN where a text could not be read."""
    found = measure(samples, [judge], bench)
    rows = found.features[judge.name].head("p_fake").rows[:, 0].double().cpu().numpy()
    place = {sample.id: i for i, sample in enumerate(samples)}
    scores = np.full(len(samples), np.nan)
    scores[[place[sample.id] for sample in found.samples]] = rows
    return scores, found.excluded


def _joined(parts: Sequence[Recorded]) -> Recorded:
    first = parts[0]
    return replace(
        first,
        scores=np.concatenate([part.scores for part in parts]),
        truth=np.concatenate([part.truth for part in parts]),
        ids=[name for part in parts for name in part.ids],
        fields={name: [word for part in parts for word in part.fields[name]] for name in first.fields},
    )
