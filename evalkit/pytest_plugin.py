"""A fixture for pytest that gates a model: `def test_model(evalkit_gate): evalkit_gate("samples/", real="real/", ...)`.

Found by pytest through its entry point when evalkit is installed, and so imported at the start of every pytest run on
that machine: nothing heavy is imported before the fixture is called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from .types import GateReport, RunRecord

# What a keyword may ask of a metric, the longest first.
_ASKED = ("max_increase", "max_decrease", "min_n", "max", "min", "confident", "require")


class Gate(Protocol):
    """What the fixture `evalkit_gate` gives a test."""

    def __call__(
        self,
        subject: str | Path | RunRecord,
        *,
        real: Any = None,
        train: Any = None,
        baseline: str | Path | RunRecord | None = None,
        rules: Mapping[str, Mapping[str, Any]] | None = None,
        config: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        **limits: Any,
    ) -> GateReport:
        """Score `subject` against `real` and fail the test unless the gate passes; inconclusive is no pass.

        subject: a source, the name of a generator, or a run record (.json), which needs no `real`. rules: by metric,
        the keys of a `[gate."metric"]` table; limits: the same as keywords, `fid_inception_max=20`. Without either, the
        [gate] of the configuration. settings: of the scoring, such as {"n": 2048, "seed": 1}.
        """


@pytest.fixture
def evalkit_gate(record_property: Any) -> Gate:
    """Score samples, hold them to limits, and fail the test with one line a metric unless all of them pass."""

    def gate(
        subject: str | Path | RunRecord,
        *,
        real: Any = None,
        train: Any = None,
        baseline: str | Path | RunRecord | None = None,
        rules: Mapping[str, Mapping[str, Any]] | None = None,
        config: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        **limits: Any,
    ) -> GateReport:
        from . import gate as judged

        asked = merged(rules or {}, limits)
        record = _scored(subject, real, train, asked, settings or {})
        report = judged(record, baseline, asked or None, None if config is None else Path(config))
        for check in report.checks:
            if check.found is not None:
                record_property(check.metric, f"{check.found.value:.6g}")
        lines = [f"{check.outcome.upper()} {check.metric}: {check.says}" for check in report.checks]
        if report.outcome != "pass":
            pytest.fail("\n".join([f"{report.subject.name}: gate {report.outcome}", *lines]), pytrace=False)
        return report

    return gate


def merged(rules: Mapping[str, Mapping[str, Any]], limits: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rules by metric, with the keywords `fid_inception_max=20` among them.

    Raises UnknownName for a keyword that ends in no known demand or begins with no known metric.
    """
    from .errors import UnknownName

    found = {metric: dict(asked) for metric, asked in rules.items()}
    for keyword, value in limits.items():
        for demand in _ASKED:
            if keyword.endswith(f"_{demand}"):
                found.setdefault(metric_name(keyword.removesuffix(f"_{demand}")), {})[demand] = value
                break
        else:
            raise UnknownName("limit", keyword, [f"fid_inception_{demand}" for demand in _ASKED])
    return found


def metric_name(words: str) -> str:
    """The metric that words joined by underscores mean: prdc_recall_inception is prdc.recall@inception.

    The longest metric name that the words begin with; of what follows, an instrument at its end and a part before it,
    or the other way round.
    """
    from . import registry
    from .errors import UnknownName

    names = sorted(registry.metrics.names(), key=len, reverse=True)
    metric = next((name for name in names if words == name or words.startswith(f"{name}_")), None)
    if metric is None:
        raise UnknownName("metric", words, names)
    rest = words.removeprefix(metric).removeprefix("_")
    if not rest:
        return metric
    measuring = {
        re.sub(r"\W", "_", name): name
        for door in (registry.generators, registry.detectors, registry.extractors)
        for name in door.names()
    }
    for spelled, name in sorted(measuring.items(), key=lambda pair: -len(pair[0])):
        if rest == spelled:
            return f"{metric}@{name}"
        if rest.endswith(f"_{spelled}"):
            return f"{metric}.{rest.removesuffix(f'_{spelled}')}@{name}"
        if rest.startswith(f"{spelled}_"):
            return f"{metric}.{rest.removeprefix(f'{spelled}_')}@{name}"
    return f"{metric}.{rest}"


def _scored(
    subject: str | Path | RunRecord,
    real: Any,
    train: Any,
    asked: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> RunRecord:
    """The record given, or that of the subject scored for the metrics that are asked for."""
    from . import score
    from .errors import UsageError
    from .records import read_record
    from .settings import resolve
    from .types import RunRecord

    if isinstance(subject, RunRecord):
        return subject
    if real is None:
        if Path(subject).suffix != ".json":
            raise UsageError(f"nothing to score {str(subject)!r} against: give real=SOURCE, or a run record (.json)")
        return read_record(Path(subject))
    chosen = resolve({**settings, "metrics": tuple(_whole(asked)) or settings.get("metrics", ())})
    return score(str(subject), real=str(real) if isinstance(real, Path) else real, train=train, settings=chosen)


def _whole(asked: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """The metrics to measure for rules on these numbers, each once."""
    return list(dict.fromkeys(asked))
