"""What a dossier says in sentences: the verdict of a batch, what was not done and why, its risk, its states, its chain.

The wording is fixed: a signed and trusted claim is strong, an unsigned one can be forged, absence means unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..types import READABLE, STATES, Ended, Named

STATE_SAYS: Mapping[str, str] = {
    "ok": "read whole",
    "ok_with_warning": "read, with a remark of the decoder or of a reader",
    "unsupported": "no format of the allow-list, by its magic bytes",
    "truncated": "ends before its content does",
    "corrupt": "the decoder refused it",
    "too_large": "beyond the limits of pixels, frames or bytes; refused before decoding",
    "timeout": "took longer than the limit; its worker was ended",
    "oom": "needed more memory than the limit",
    "crash": "ended its worker; the batch went on without it",
    "io_error": "could not be read from its source",
}
# What a synthetic verdict rests on, by its rule.
RULES: Mapping[str, str] = {
    "discovery": "discovered by the detectors",
    "signed_generation": "so by a trusted signature",
    "watermark": "so by a generator's watermark",
    "listed_synthetic": "so by the user's list",
    "believed_claim": "so by an unsigned claim, which can be forged",
}
# A listed entry of the custody section is cut here; the whole stands in audit.json.
MOST_ENTRIES = 160
# Where 1 + 1/2 + ... + 1/m is summed up to; beyond it the expansion with Euler's constant is exact to 1e-9.
_SUMMED = 10_000


@dataclass(frozen=True)
class Batch:
    """The counts that the sentences speak of; rules: (verdict, rule) -> files."""

    seal: Mapping[str, Any]
    total: int
    verdicts: Mapping[str, int]
    rules: Mapping[tuple[str, str], int]
    states: Mapping[str, int]
    scored: int
    tested: int
    flagged: int
    threshold: float | None

    @cached_property
    def frozen(self) -> Mapping[str, Any]:
        """What was settled before the first file was opened."""
        return mapping(self.seal, "frozen") or self.seal

    @cached_property
    def configuration(self) -> Mapping[str, Any]:
        return mapping(self.frozen, "configuration")

    @cached_property
    def calibration(self) -> Mapping[str, Any]:
        """Facts of the calibration set: reals, fakes, misses (share of its fakes below the lower threshold)."""
        found = part(self.seal, "calibration")
        return found if isinstance(found, Mapping) else {}

    @property
    def fdr(self) -> float:
        found = self.configuration.get("fdr", 0.05)
        return float(found) if isinstance(found, int | float) and 0 < found < 1 else 0.05

    @property
    def by_yekutieli(self) -> bool:
        used = part(self.seal, "method") or self.configuration.get("method")
        return str(used).lower() in ("by", "benjamini-yekutieli", "benjamini_yekutieli")

    @property
    def method_words(self) -> str:
        return "Benjamini-Yekutieli" if self.by_yekutieli else "Benjamini-Hochberg"

    @property
    def dependence(self) -> float:
        """What the level is divided by: 1, or 1 + 1/2 + ... + 1/m where any dependence is allowed for."""
        return harmonic(self.tested) if self.by_yekutieli else 1.0


def harmonic(m: int) -> float:
    """1 + 1/2 + ... + 1/m, m >= 1."""
    if m <= _SUMMED:
        return sum(1 / k for k in range(1, m + 1)) or 1.0
    return math.log(m) + 0.5772156649015329 + 1 / (2 * m)


def mapping(seal: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = seal.get(key)
    return found if isinstance(found, Mapping) else {}


def part(seal: Mapping[str, Any], key: str) -> Any:
    """A batch statistic of the seal; an empty tuple where it has none."""
    return mapping(seal, "statistics").get(key, seal.get(key, ()))


# ---------------------------------------------------------------------------------------------- verdict


def findings(batch: Batch) -> tuple[str, ...]:
    """The batch's verdict in words: first the counts, then what each rests on."""
    if not batch.total:
        return ("No file was audited.",)
    counts = {name: batch.verdicts.get(name, 0) for name in ("synthetic", "authentic", "uncertain", "unreadable")}
    found = batch.rules.get(("synthetic", "discovery"), 0)
    first = (
        f"Of {files(batch.total)}, {counts['synthetic']:,} {are(counts['synthetic'])} synthetic"
        + (f" ({found:,} of them discovered at a false-discovery rate of {percent(batch.fdr)})" if found else "")
        + "".join(f", {counts[name]:,} {name}" for name in ("authentic", "uncertain", "unreadable"))
        + "."
    )
    said = [first]
    if counts["synthetic"]:
        said.append(_rests(batch))
    if counts["uncertain"]:
        claims = batch.rules.get(("uncertain", "unsigned_claim"), 0)
        if claims:
            carry = "carries" if claims == 1 else "carry"
            said.append(
                f"Of the uncertain ones {claims:,} {carry} an unsigned claim of generation, which can be forged."
            )
        said.append("Uncertain: nothing was found that decides it. Absence of evidence means unknown.")
    return tuple(said)


def _rests(batch: Batch) -> str:
    """What the synthetic verdicts rest on: discoveries and rules."""
    found = sorted((-n, rule) for (verdict, rule), n in batch.rules.items() if verdict == "synthetic")
    words = []
    for n, rule in found:
        how = RULES.get(rule) or f"by {plain(rule) or 'a rule without a name'}"
        words.append(f"{-n:,} {are(-n)} {how}" + (f" ({batch.method_words})" if rule == "discovery" else ""))
    return "Of the synthetic ones " + ", ".join(words) + "."


def plain(rule: str) -> str:
    return rule.replace("_", " ")


def files(n: int) -> str:
    return f"{n:,} {'file' if n == 1 else 'files'}"


def are(n: int) -> str:
    return "is" if n == 1 else "are"


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def order(rows: int, total: int, pages: int) -> str:
    """How the rows of the worklist were chosen and where the rest is."""
    sorted_by = "Sorted by p-value, then P(fake), then by the strength of the evidence."
    if rows == total:
        return f"All {files(total)}. {sorted_by} {pages:,} have a page of their own."
    return (
        f"{rows:,} of {files(total)}: those called synthetic, in conflict or decided on first, then the smallest"
        f" p-values. {sorted_by} {total - rows:,} are left out here and stand in audit.csv and audit.jsonl; {pages:,}"
        " have a page of their own."
    )


# ---------------------------------------------------------------------------------------------- not done


def undone(batch: Batch) -> tuple[str, ...]:
    """What was not done and why, and as of which trust list and date signatures were judged."""
    plan = batch.configuration
    said = [str(words) for words in part(batch.seal, "not_done") if isinstance(words, str)]
    if not plan.get("detectors"):
        said.append(
            "No detector was given (--with): there is no P(fake) and no p-value, verdicts rest on evidence alone."
        )
    elif not plan.get("calibration"):
        said.append("No calibration set was given: there are no p-values, so no false-discovery rate is controlled.")
    witnesses = dict(_witnesses(plan))
    packages = mapping(mapping(plan, "code") or mapping(batch.frozen, "code"), "packages")
    if "provenance" not in witnesses:
        said.append("Provenance was not read: no C2PA, IPTC, EXIF or generator text was looked for.")
    elif "c2pa-python" not in packages:
        said.append("C2PA manifests were not verified: c2pa-python is not installed (extra: provenance).")
    else:
        said.append(_trust(witnesses["provenance"], str(plan.get("as_of", ""))))
    return tuple(said)


def _witnesses(plan: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    given = plan.get("witnesses")
    for one in given if isinstance(given, list | tuple) else ():
        if isinstance(one, str):
            yield one, {}
        elif isinstance(one, list | tuple) and one:
            yield str(one[0]), one[1] if len(one) > 1 and isinstance(one[1], Mapping) else {}


def _trust(settings: Mapping[str, Any], as_of: str) -> str:
    named = str(settings.get("trust_list") or "")
    dated = str(settings.get("trust_date") or "")
    when = str(settings.get("as_of") or as_of)
    signers = (
        f"against the trust list {named}{f' of {dated}' if dated else ''}"
        if named
        else "without a trust list, so no signer counts as trusted"
    )
    return f"C2PA signatures were judged {signers}{f', as of {when}' if when else ''}."


# ---------------------------------------------------------------------------------------------- coverage and risk


def facts(batch: Batch) -> tuple[tuple[str, str, str], ...]:
    """(what, value, what it means): coverage, the risk that decided files carry, what the calibration can tell."""
    readable = batch.total - batch.verdicts.get("unreadable", 0)
    decided = batch.verdicts.get("synthetic", 0) + batch.verdicts.get("authentic", 0)
    found = []
    if readable:
        found.append(
            ("coverage", percent(decided / readable), f"{decided:,} of {readable:,} readable files are decided")
        )
    if batch.tested:
        words = f"bound on the expected share of reals among the {batch.flagged:,} discoveries, by {batch.method_words}"
        found.append(("false-discovery rate", f"≤ {percent(batch.fdr)}", words))
    found += _missed(batch)
    return (*found, *_calibrated(batch))


def _missed(batch: Batch) -> list[tuple[str, str, str]]:
    called = batch.verdicts.get("authentic", 0)
    share, fakes = batch.calibration.get("misses"), batch.calibration.get("fakes")
    if not called:
        return []
    if not isinstance(share, int | float):
        words = f"no calibration fakes: how many fakes are among {files(called)} called authentic is not known"
        return [("miss rate", "unknown", words)]
    return [
        ("miss rate", percent(float(share)), f"of {fakes} calibration fakes were called authentic by the detectors")
    ]


def _calibrated(batch: Batch) -> list[tuple[str, str, str]]:
    n = batch.calibration.get("reals")
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        return []
    found = [
        ("calibration reals", f"{n:,}", "their scores are what every p-value is held against"),
        ("smallest p-value", f"{1 / (n + 1):.3g}", "1 / (n + 1): no file can have a smaller one"),
    ]
    if batch.tested:
        # k files share the smallest p: they are discoveries where 1 / (n + 1) <= q k / (m H).
        least = max(1, math.ceil(batch.tested * batch.dependence / (batch.fdr * (n + 1)) - 1e-9))
        words = (
            f"m / (q (n + 1)) with m = {batch.tested:,}: fewer files than this at the smallest p-value are no discovery"
        )
        found.append(("least number of discoveries", f"{least:,}", words))
    return found


# ---------------------------------------------------------------------------------------------- states and chain


def ended(batch: Batch, first: Mapping[str, Sequence[Named]]) -> tuple[Ended, ...]:
    """Each state but ok that inputs ended in, with its count, its meaning and the first names."""
    found = [state for state in (*STATES, "other") if state in batch.states]
    return tuple(
        Ended(s, batch.states[s], STATE_SAYS.get(s, "a state that this version does not know"), tuple(first.get(s, ())))
        for s in found
        if s != "ok"
    )


def unread(batch: Batch) -> int:
    """Files that did not end in a readable state."""
    return sum(n for state, n in batch.states.items() if state not in READABLE)


def custody(seal: Mapping[str, Any]) -> Mapping[str, str]:
    """The seal as words by dotted name, without the batch statistics that the page shows elsewhere."""
    found: dict[str, str] = {}
    for key, value in _flat("", {k: v for k, v in seal.items() if k != "statistics"}):
        if len(found) == MOST_ENTRIES:
            found["more"] = "in audit.json"
            break
        found[key] = value
    return found


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key in value:
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), value[key])
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping | list | tuple) for v in value):
        for place, one in enumerate(value, 1):
            yield from _flat(f"{prefix} {place}", one)
    elif isinstance(value, list | tuple):
        yield prefix, ", ".join(map(str, value))
    elif value is not None:
        yield prefix, "yes" if value is True else "no" if value is False else str(value)
