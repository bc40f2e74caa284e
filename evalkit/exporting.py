"""Run records in the forms other tools read: Hugging Face model pages, DVC, MLflow.

Hugging Face has two: `.eval_results/*.yaml`, which a model page and a benchmark's leaderboard show, and `model-index`
in the front matter of a model card, the older one. Both keep a value without an interval, so interval, n and protocol
go into the notes. DVC reads any JSON of numbers and shows how they differ between commits. MLflow keeps metrics,
parameters and files of a run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import BadRecord, BadSetting, NothingToEvaluate, RunFailed, UnknownName
from .records import write_record, write_text
from .types import MetricResult, RunRecord

# What the Hub calls what these models do.
TASKS: Mapping[str, str] = {
    "image": "unconditional-image-generation",
    "text": "text-generation",
    "audio": "text-to-audio",
    "video": "text-to-video",
}
RESULTS_FOLDER = ".eval_results"
INDEX_FILE = "model-index.yaml"
# What the Hub takes for the id of a dataset: NAME or OWNER/NAME.
_DATASET = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# The front matter of a model card.
_CARD = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*\r?$\n?(.*)\Z", re.DOTALL | re.MULTILINE)
_MLFLOW_NAME = re.compile(r"[^\w\-./ ]")
_MLFLOW_LONGEST = 250


def chosen(record: RunRecord, metrics: Sequence[str] = ()) -> tuple[MetricResult, ...]:
    """The record's results of these names, all without names; NothingToEvaluate without one, UnknownName."""
    if not record.results:
        raise NothingToEvaluate(f"the record of {record.subject.name!r} holds no result")
    names = [result.name for result in record.results]
    for name in metrics:
        if name not in names:
            raise UnknownName("metric of the record", name, names)
    return tuple(result for result in record.results if not metrics or result.name in metrics)


def notes(result: MetricResult) -> str:
    """What a bare value leaves out: direction, interval, n, protocol."""
    sides = ", ".join(f"{n} {side}" for side, n in result.n.items())
    interval = f"{result.level:.0%} interval [{result.low:.6g}, {result.high:.6g}] ({result.interval})"
    parts = (f"{result.better} is better", interval, sides and f"n = {sides}", f"protocol {result.protocol}")
    return "; ".join(part for part in parts if part)


def eval_results(
    record: RunRecord,
    results: Sequence[MetricResult],
    dataset: str,
    tasks: Mapping[str, str],
    *,
    revision: str | None = None,
    url: str | None = None,
) -> list[dict[str, Any]]:
    """The entries of a `.eval_results` file, one a result.

    dataset: the id of a dataset on the Hub. tasks: metric -> its task in that dataset's benchmark; a metric without one
    goes under its own name. revision: the commit of the dataset. url: where the evaluation can be looked at. The date
    is that of SOURCE_DATE_EPOCH, and left out without it: the Hub then takes the day of the commit.
    """
    if not _DATASET.fullmatch(dataset):
        raise BadSetting(f"--dataset {dataset!r}; expected the id of a dataset on the Hub, such as uoft-cs/cifar10")
    for name in tasks:
        if name not in [result.name for result in results]:
            raise UnknownName("metric of the record", name, [result.name for result in results])
    entries = []
    for result in results:
        where = {"id": dataset, "task_id": tasks.get(result.name, result.name)}
        entry: dict[str, Any] = {"dataset": where if revision is None else {**where, "revision": revision}}
        entry["value"] = result.value
        if (day := _date()) is not None:
            entry["date"] = day
        if url is not None:
            entry["source"] = {"url": url, "name": f"evalkit {record.environment.get('evalkit', '')}".strip()}
        entry["notes"] = notes(result)
        entries.append(entry)
    return entries


def _date() -> str | None:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return None
    try:
        return datetime.fromtimestamp(int(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError) as error:
        raise BadSetting(f"SOURCE_DATE_EPOCH = {epoch!r}; expected whole seconds since 1970") from error


def model_index(
    record: RunRecord, results: Sequence[MetricResult], dataset: str | None = None, *, url: str | None = None
) -> list[dict[str, Any]]:
    """The `model-index` of a model card: one model, one task, one dataset, a metric each result.

    dataset: the id of a dataset on the Hub; without it the reference's name stands for both name and type.
    """
    reference = record.reference
    name = reference.name if reference is not None else "no reference"
    metrics = [
        {
            "type": result.name.partition("@")[0].partition(".")[0],
            "name": result.name,
            "value": result.value,
            "args": {"low": result.low, "high": result.high, "n": dict(result.n), "protocol": result.protocol},
            "verified": False,
        }
        for result in results
    ]
    task = TASKS[record.subject.modality]
    source = {} if url is None else {"source": {"name": "evalkit", "url": url}}
    shown = {"name": name, "type": dataset or _slug(name)}
    return [
        {
            "name": record.subject.name,
            "results": [{"task": {"type": task}, "dataset": shown, "metrics": metrics, **source}],
        }
    ]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "unnamed"


def with_index(card: str, index: Sequence[Mapping[str, Any]], where: str = "the card") -> str:
    """A model card with its `model-index` brought up to date: same task and dataset replaced, everything else kept.

    Raises BadRecord when its front matter is not a YAML mapping.
    """
    import yaml

    found = _CARD.match(card)
    head, body = found.groups() if found else ("", card)
    try:
        front = yaml.safe_load(head) or {}
    except yaml.YAMLError as error:
        raise BadRecord(f"{where}: its front matter is not YAML ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(front, dict):
        raise BadRecord(f"{where}: its front matter is a {type(front).__name__}; expected keys and values")
    old = front.get("model-index") or []
    if not isinstance(old, list) or not all(isinstance(model, dict) for model in old):
        raise BadRecord(f"{where}: its model-index is not a list of models; mend it or take another card")
    front["model-index"] = _merged(old, index)
    return f"---\n{_yaml(front)}---\n{body}"


def _merged(old: Sequence[Any], new: Sequence[Mapping[str, Any]]) -> list[Any]:
    models = [dict(model) for model in old]
    for own in new:
        home = next((model for model in models if model.get("name") == own["name"]), None)
        if home is None:
            models.append(dict(own))
            continue
        taken = [_place(result) for result in own["results"]]
        kept = [result for result in home.get("results") or [] if _place(result) not in taken]
        home["results"] = [*kept, *own["results"]]
    return models


def _place(result: Any) -> tuple[Any, Any]:
    """Which task on which dataset a result of an index is of."""
    parts = [result.get(key) if isinstance(result, dict) else None for key in ("task", "dataset")]
    task, dataset = (part.get("type") if isinstance(part, dict) else None for part in parts)
    return task, dataset


def _yaml(document: Any) -> str:
    """YAML as other readers of YAML understand it: ASCII, keys in the order given, a value a line."""
    import yaml

    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=False, width=10_000))


def write_hub(
    record: RunRecord,
    out: Path,
    *,
    dataset: str | None = None,
    tasks: Mapping[str, str] | None = None,
    metrics: Sequence[str] = (),
    revision: str | None = None,
    url: str | None = None,
    card: Path | None = None,
) -> list[Path]:
    """Write what a model repository on the Hub shows of a record into the folder `out`, and say which files.

    Always model-index.yaml; with a dataset `.eval_results/SUBJECT.yaml`; with a card README.md, a copy of it with its
    model-index brought up to date. The card itself is not changed.
    """
    results = chosen(record, metrics)
    files = {INDEX_FILE: _yaml({"model-index": model_index(record, results, dataset, url=url)})}
    if dataset is not None:
        entries = eval_results(record, results, dataset, tasks or {}, revision=revision, url=url)
        files[f"{RESULTS_FOLDER}/{_slug(record.subject.name)[:80]}.yaml"] = _yaml(entries)
    elif tasks or revision:
        raise BadSetting("--task and --revision belong to a benchmark: name it with --dataset ID")
    if card is not None:
        try:
            text = card.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadRecord(f"cannot read card {str(card)!r}: {error}") from error
        if (out / card.name).resolve() == card.resolve():
            raise BadSetting(f"--out {out} would overwrite {card}; give another folder")
        files[card.name] = with_index(text, model_index(record, results, dataset, url=url), str(card))
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(out / name, text)
    return [out / name for name in files]


def flat(record: RunRecord, metrics: Sequence[str] = ()) -> dict[str, float]:
    """Names -> numbers for `dvc metrics`: NAME the value, NAME.low and NAME.high its interval."""
    found: dict[str, float] = {}
    for result in chosen(record, metrics):
        found |= {result.name: result.value, f"{result.name}.low": result.low, f"{result.name}.high": result.high}
    return found


def log_to_mlflow(
    record: RunRecord, *, uri: str | None = None, experiment: str | None = None, metrics: Sequence[str] = ()
) -> str:
    """Log a record as one MLflow run, with the record itself as an artefact; the id of the run.

    `@`, which MLflow refuses in names, becomes `/`: fid@inception is fid/inception, with .low and .high. uri: a
    tracking server, or what MLFLOW_TRACKING_URI says. Raises RunFailed without the package, or when the server fails.
    """
    try:
        import mlflow
    except ImportError as error:
        raise RunFailed("mlflow is not installed; pip install 'evalkit[mlflow]'") from error
    import tempfile

    values = {_mlflow_name(name): value for name, value in flat(record, metrics).items()}
    subject = record.subject
    params = {"subject": subject.name, "source": subject.source, "n": subject.n, "seed": record.seed}
    tags = {"evalkit.schema": record.schema, "evalkit.digest": subject.digest}
    tags |= {f"evalkit.{key}": str(value) for key, value in record.environment.items() if key in ("commit", "evalkit")}
    try:
        if uri is not None:
            mlflow.set_tracking_uri(uri)
        if experiment is not None:
            mlflow.set_experiment(experiment)
        with (
            mlflow.start_run(run_name=subject.name[:_MLFLOW_LONGEST], tags=tags) as run,
            tempfile.TemporaryDirectory() as place,
        ):
            mlflow.log_params(params)
            mlflow.log_metrics(values)
            write_record(record, Path(place) / "record.json")
            mlflow.log_artifact(str(Path(place) / "record.json"))
            return str(run.info.run_id)
    except Exception as error:  # MLflow raises its own, its store's and the network's.
        raise RunFailed(f"MLflow did not take the record: {type(error).__name__}: {error}") from error


def _mlflow_name(name: str) -> str:
    return _MLFLOW_NAME.sub("_", name.replace("@", "/"))[:_MLFLOW_LONGEST]
