"""The fifteen situations and what each asks of a metric, one desideratum at a time.

D1b: the metric says something true of the difference. D2: its settings do not matter. D3: nor does the size of the
sets. D4: its ends mean something, 1 for equal and 0 for unlike sets. D5: nor do the units of a column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from . import draws
from .curves import Curve, Test, bell, falls, flat, low_or_high, rises, settles, value, wide
from .draws import KEPT, OVERLAP, Size, Step

Kind: TypeAlias = Literal["fidelity", "diversity", "overall", "distance"]
Walk: TypeAlias = Callable[[Size, np.random.Generator], Iterator[Step]]

FIDELITY: tuple[Kind, ...] = ("fidelity",)
DIVERSITY: tuple[Kind, ...] = ("diversity",)
OVERALL: tuple[Kind, ...] = ("overall",)
BOUNDED: tuple[Kind, ...] = ("fidelity", "diversity", "overall")
EVERY: tuple[Kind, ...] = (*BOUNDED, "distance")
BOTH: tuple[Kind, ...] = ("overall", "distance")
FIRST, LAST = -math.inf, math.inf


@dataclass(frozen=True)
class Check:
    """A question to metrics of some kinds; `as_score` makes a curve of 0 to 1 of a distance, which has no bound.

    sweep: the one sweep it is about, all of them when empty.
    """

    desideratum: str
    kinds: tuple[Kind, ...]
    test: Test
    as_score: Callable[[Curve], Curve] = Curve.closeness
    sweep: str = ""


@dataclass(frozen=True)
class Scenario:
    """A situation: its sweeps by name, and its checks. `big`: sizes in the thousands, walked through only once."""

    name: str
    sweeps: Callable[[Size], Mapping[str, Walk]]
    checks: tuple[Check, ...]
    big: bool = field(default=False)


def _by_dimension(walk: Callable[..., Iterator[Step]], of: str = "dims") -> Callable[[Size], Mapping[str, Walk]]:
    return lambda size: {f"d={d}": partial(walk, d) for d in getattr(size, of)}


def _single(walk: Walk) -> Callable[[Size], Mapping[str, Walk]]:
    return lambda size: {"": walk}


def _with_outlier(size: Size) -> Mapping[str, Walk]:
    return {
        f"{side} outlier, d={d}": partial(draws.means, d, outlier=side) for side in ("real", "fake") for d in size.dims
    }


def _bounds(*wanted: tuple[float, float], kinds: tuple[Kind, ...] = BOUNDED, sweep: str = "") -> tuple[Check, ...]:
    return tuple(Check("D4", kinds, value(x, y), sweep=sweep) for x, y in wanted)


def _bell(centre: float, kinds: tuple[Kind, ...] = EVERY) -> Check:
    return Check("D1b", kinds, bell(centre), partial(Curve.closeness, centre=centre))


def _steady(desideratum: str, test: Test) -> Check:
    return Check(desideratum, EVERY, test, Curve.relative)


PEAK = (_bell(0.0), *_bounds((0.0, 1), (FIRST, 0), (LAST, 0)))


def _drops(by: float) -> tuple[Check, ...]:
    return (
        Check("D1b", FIDELITY, flat()),
        Check("D1b", (*DIVERSITY, *BOTH), falls(by)),
        *_bounds((FIRST, 1)),
        *_bounds((LAST, 1), kinds=FIDELITY),
    )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("Gaussian mean difference", _by_dimension(draws.means), PEAK),
    Scenario("Gaussian mean difference, one outlier", _with_outlier, PEAK),
    Scenario("Gaussian mean difference beside a Pareto column", _single(draws.means_beside_pareto), PEAK),
    Scenario(
        "Gaussian standard deviation difference",
        _by_dimension(draws.deviations),
        (
            Check("D1b", FIDELITY, falls()),
            Check("D1b", DIVERSITY, low_or_high(bell(1.0), rises())),
            _bell(1.0, BOTH),
            *_bounds((1.0, 1)),
            *_bounds((FIRST, 1), (LAST, 0), kinds=FIDELITY),
            *_bounds((FIRST, 0), kinds=(*DIVERSITY, *OVERALL)),
            *_bounds((LAST, 0), kinds=OVERALL),
            Check("D4", DIVERSITY, wide(LAST)),
        ),
    ),
    Scenario("modes dropped together", _by_dimension(draws.drops_together), _drops(0.96)),
    Scenario("modes dropped in turn", _by_dimension(draws.drops_in_turn), _drops(4)),
    Scenario(
        "modes dropped, then invented",
        _single(draws.invents),
        (
            Check("D1b", FIDELITY, falls()),
            Check("D1b", DIVERSITY, rises()),
            _bell(KEPT, BOTH),
            *_bounds((KEPT, 1)),
            *_bounds((FIRST, 1), kinds=FIDELITY),
            *_bounds((LAST, 1), kinds=DIVERSITY),
        ),
    ),
    Scenario(
        "one mode for two",
        _by_dimension(draws.one_for_two),
        (
            Check("D1b", (*FIDELITY, *BOTH), falls()),
            Check("D1b", DIVERSITY, low_or_high(falls(), flat())),
            *_bounds((FIRST, 1)),
        ),
    ),
    Scenario(
        "surface of a hypersphere",
        _by_dimension(draws.spheres, "spheres"),
        (_bell(1.0), *_bounds((1.0, 1), (FIRST, 0), (LAST, 0))),
    ),
    Scenario(
        "hypercube, both sides growing",
        _by_dimension(partial(draws.cubes, real_too=True)),
        (_steady("D3", settles()), Check("D1b", BOUNDED, value(LAST, OVERLAP))),
        big=True,
    ),
    Scenario(
        "hypercube, generated side growing",
        _by_dimension(partial(draws.cubes, real_too=False)),
        (_steady("D2", settles()), Check("D1b", BOUNDED, value(LAST, OVERLAP))),
        big=True,
    ),
    Scenario(
        "sphere and torus",
        lambda size: {f"real {side}": partial(draws.sphere_and_torus, side) for side in ("sphere", "torus")},
        (_steady("D1b", settles()), *_bounds((LAST, 0))),
        big=True,
    ),
    Scenario(
        "one column in other units", _single(draws.scales), (_steady("D5", flat()), *_bounds((FIRST, 0), (LAST, 0)))
    ),
    Scenario(
        "one disjoint column among many alike",
        _single(draws.one_disjoint),
        (_steady("D1b", flat()), *_bounds((FIRST, 0), (LAST, 0))),
    ),
    Scenario(
        "whole numbers and continuous ones",
        lambda size: {f"discrete {side}": partial(draws.grids, side) for side in ("real", "fake")},
        (
            _steady("D1b", flat()),
            *_bounds((FIRST, 0), (LAST, 0), kinds=FIDELITY, sweep="discrete real"),
            *_bounds((FIRST, 1), (LAST, 1), kinds=FIDELITY, sweep="discrete fake"),
            Check("D4", DIVERSITY, wide(FIRST), sweep="discrete real"),
            Check("D4", DIVERSITY, wide(LAST), sweep="discrete real"),
            *_bounds((FIRST, 0), (LAST, 0), kinds=DIVERSITY, sweep="discrete fake"),
            *_bounds((FIRST, 0), (LAST, 0), kinds=OVERALL),
        ),
    ),
)
