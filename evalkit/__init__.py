"""evalkit: how good, how diverse, how original, how fast and how detectable a generative model is, with error bars.

    import evalkit
    board = evalkit.compare(["samples/a", "samples/b"], real="photos/", out="report")
    record = evalkit.score("samples/a", real="photos/", metrics=["fid", "kid"])

The face: every verb and type, imported when first used, so that `import evalkit` and `evalkit --help` load no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "compare": "verbs",
    "score": "verbs",
    "generate": "verbs",
    "train": "verbs",
    "explain": "verbs",
    "stats": "summarising",
    "decide": "deciding",
    "plan": "sizing",
    "gate": "gating.running",
    "detect": "judging.detecting",
    "cross_matrix": "matrices.crossing",
    "stress": "stressing.suites",
    "leaks": "leakage",
    "replay": "scorefiles.replaying",
    "raid": "scorefiles.replaying",
    "subgroups": "scorefiles.subgrouping",
    "audit": "auditing.asking",
    "audit_data": "shortcuts.auditing",
    "attribute": "sourcing.attributing",
    "judge": "human.conducting",
    "open_study": "human.conducting",
    "view": "viewing.browser",
    "open_samples": "samples",
    "read_record": "records",
    "metric": "types",
    "Bench": "measurement",
    "Cache": "cache",
    "Settings": "settings",
    "ExitCode": "errors",
    "EvalkitError": "errors",
    **dict.fromkeys(
        (
            "Batch", "Check", "Comparison", "Control", "Detector", "Estimate", "Extractor", "Features", "Floor",
            "GateReport", "Generator", "Leaderboard", "Metric", "MetricResult", "Rule", "RunRecord",
            "Sample", "SampleSet", "Timing",
        ),
        "types",
    ),
}  # fmt: skip

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from . import registry as registry
    from .auditing.asking import audit as audit
    from .cache import Cache as Cache
    from .deciding import decide as decide
    from .errors import EvalkitError as EvalkitError
    from .errors import ExitCode as ExitCode
    from .gating.running import gate as gate
    from .human.conducting import judge as judge
    from .human.conducting import open_study as open_study
    from .judging.detecting import detect as detect
    from .measurement import Bench as Bench
    from .records import read_record as read_record
    from .samples import open_samples as open_samples
    from .settings import Settings as Settings
    from .shortcuts.auditing import audit_data as audit_data
    from .sizing import plan as plan
    from .summarising import stats as stats
    from .types import Batch as Batch
    from .types import Check as Check
    from .types import Comparison as Comparison
    from .types import Control as Control
    from .types import Detector as Detector
    from .types import Estimate as Estimate
    from .types import Extractor as Extractor
    from .types import Features as Features
    from .types import Floor as Floor
    from .types import GateReport as GateReport
    from .types import Generator as Generator
    from .types import Leaderboard as Leaderboard
    from .types import Metric as Metric
    from .types import MetricResult as MetricResult
    from .types import Rule as Rule
    from .types import RunRecord as RunRecord
    from .types import Sample as Sample
    from .types import SampleSet as SampleSet
    from .types import Timing as Timing
    from .types import metric as metric
    from .verbs import compare as compare
    from .verbs import explain as explain
    from .verbs import generate as generate
    from .verbs import score as score
    from .verbs import train as train
    from .viewing.browser import view as view


def __getattr__(name: str) -> Any:
    if name == "registry":
        return import_module(".registry", __name__)
    if name not in _HOME:
        raise AttributeError(f"module 'evalkit' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
