"""A study from its sets to a page that is being served: planned once, then gone on with for as long as answers come."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..cache import FileDigests
from ..errors import BadSetting, RunFailed, UsageError
from ..samples import open_samples
from ..serving import LocalServer
from ..types import Modality, SampleSet
from .designing import Mode, design
from .service import Judging
from .store import Group, Store, Terms, create
from .trials import rater_name

ITEMS = 60
CATCH = 0.1
MOST_ITEMS = 1000
MOST_CATCH = 0.3


def open_study(
    fakes: Mapping[str, str | SampleSet],
    real: str | SampleSet,
    out: Path,
    *,
    mode: Mode = "real-or-fake",
    items: int = ITEMS,
    catch: float = CATCH,
    seed: int = 0,
    digests: FileDigests | None = None,
) -> Store:
    """The study at `out`, planned now or found as it was left; the same arguments go on with it.

    fakes: generated sets by name. items: judged by every rater, 8 to 1000; catch: so many times as many catch trials
    and repeats each, 0 to 0.3. Raises BadSetting when `out` holds a study of other sets or settings.
    """
    if mode not in ("real-or-fake", "2afc"):
        raise BadSetting(f"mode {mode!r}; expected real-or-fake or 2afc")
    if not 8 <= items <= MOST_ITEMS:
        raise BadSetting(f"items {items}; expected 8 to {MOST_ITEMS}")
    if not 0 <= catch <= MOST_CATCH:
        raise BadSetting(f"catch {catch}; expected a share of the items, 0 to {MOST_CATCH}")
    if not fakes:
        raise BadSetting("no generated set to judge; give at least one folder or file of samples")
    reals = _opened(real, None, digests, None)
    others = [_opened(source, reals.modality, digests, name) for name, source in fakes.items()]
    groups = (_group(reals, "real", real), *(_group(f, "fake", s) for f, s in zip(others, fakes.values(), strict=True)))
    if out.exists():
        return _gone_on(out, mode, items, catch, seed, groups)
    made = design(reals, others, mode=mode, items=items, catch=catch, seed=seed)
    terms = Terms(_page(out), mode, reals.modality, seed, items, catch, groups, made.words, made.notes)
    create(out, terms, made)
    return Store(out)


def judge(store: Store, *, port: int = 0, rater: str | None = None) -> LocalServer:
    """A server of the study on 127.0.0.1, ready to `serve`; its `url` is what a rater opens.

    rater: the only one who judges here. Raises RunFailed when the port is taken.
    """
    application = Judging(store, None if rater is None else rater_name(rater))
    return listening(application, port)


def listening(application: Judging, port: int) -> LocalServer:
    """The application on a port of this machine; RunFailed when it is taken."""
    try:
        return LocalServer(application, port=port)
    except (OSError, OverflowError) as error:
        raise RunFailed(f"cannot listen on port {port}: {error}; give another --port, 0 takes a free one") from error


def _opened(
    source: str | SampleSet, modality: Modality | None, digests: FileDigests | None, name: str | None
) -> SampleSet:
    samples = open_samples(source, digests=digests, modality=modality, name=name)
    if len(samples) and not any(True for _ in samples):
        raise UsageError(f"{samples.name!r} holds statistics and no samples; people need something to look at")
    return samples


def _group(samples: SampleSet, role: str, source: object) -> Group:
    given = str(source) if isinstance(source, str | Path) else samples.name
    return Group(_plain(samples.name), role, _plain(given), len(samples), samples.digest)


def _plain(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _page(out: Path) -> str:
    """What the numbers are called after: the study file's name in lower case letters, digits, - and _."""
    return re.sub(r"[^a-z0-9_-]+", "-", out.stem.lower()).strip("-")[:60] or "study"


def _gone_on(out: Path, mode: Mode, items: int, catch: float, seed: int, groups: tuple[Group, ...]) -> Store:
    store = Store(out)
    own = store.terms
    said: dict[str, object] = {"mode": mode, "items": items, "catch": catch, "seed": seed}
    said["sets"] = [(g.name, g.digest) for g in groups]
    kept = {**{key: getattr(own, key) for key in said}, "sets": [(g.name, g.digest) for g in own.sets]}
    odd = [key for key in said if said[key] != kept[key]]
    if odd:
        store.close()
        what = "sets (their names or their content)" if odd[0] == "sets" else f"{odd[0]} {kept[odd[0]]}"
        raise BadSetting(f"{out} holds a study of other {what}; give its own arguments to go on, or another --out")
    return store
