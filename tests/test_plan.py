"""`evalkit plan`: the textbook formula, shares of the sides, floors, and the command as a user runs it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.cli import run
from evalkit.errors import BadRecord, BadSetting
from evalkit.sizing import Noise, amount, noise_of, sized, standard_error
from evalkit.types import MetricResult, Moves
from tests.conftest import failed

pytestmark = pytest.mark.usefixtures("at_home")

Z = 1.959964 + 0.841621


def result(error: float = 0.1, n: int = 100, share: float | None = None, value: float = 1.0) -> MetricResult:
    """A number with this standard error, whose real side has this share of the variance."""
    moves = (
        {} if share is None else {"real": Moves(f"r:{n}", share, (3, -1, -2)), "fake": Moves("f", 1 - share, (1, -1))}
    )
    return MetricResult(
        name="kid@pixels", value=value, low=value - 1.959964 * error, high=value + 1.959964 * error, level=0.95,
        interval="delta", better="lower", unit="", n={"real": n, "fake": n}, version=1, protocol="p", terms={},
        seconds=0.0, moves=moves,
    )  # fmt: skip


def test_two_means_need_what_the_textbook_says() -> None:
    """Two means of spread 1 that differ by 0.5: 2 (1.96 + 0.84)^2 / 0.25 = 62.8 a side."""
    own = replace(result(error=0.1), n={"fake": 100})
    assert standard_error(own) == pytest.approx(0.1, rel=1e-5)
    found = sized(own, noise_of(own, own), 0.5, 0.8, 0.05)
    assert found.n == 63
    assert sized(own, noise_of(own, None), 0.5, 0.8, 0.05).n == 32, "of one number from a limit half of it"
    assert sized(own, noise_of(own, own), 0.25, 0.8, 0.05).n == math.ceil(4 * 2 * Z**2 / 0.25)


def test_shared_real_samples_count_for_nothing_where_they_move_both_alike() -> None:
    own = result(share=0.4)
    alone, paired = noise_of(own, own), noise_of(own, own, paired=True)
    assert alone.real == pytest.approx(2 * 0.4 * 0.01 * 100, rel=1e-4) and paired.real == 0
    assert paired.fake == pytest.approx(alone.fake) == pytest.approx(2 * 0.6 * 0.01 * 100, rel=1e-4)
    # Two records with equal moves of the real side are such a pair.
    two = noise_of(
        own, replace(own, value=1.2, low=own.low + 0.2, high=own.high + 0.2, moves={"real": own.moves["real"]})
    )
    assert two.real == pytest.approx(0, abs=1e-9)
    assert two.error(100) ** 2 == pytest.approx(2 * 0.01 * (1 - 0.4), rel=1e-3)


def test_a_reference_that_does_not_grow_sets_a_floor() -> None:
    noise = Noise(real=4.0, fake=4.0, n=100, reference=400)
    found = sized(result(share=0.5), noise, 0.3, 0.8, 0.05)
    assert found.n == math.ceil((Z / 0.3) ** 2 * 8)
    assert found.floor == pytest.approx(Z * 0.1, rel=1e-5)
    room = (0.3 / Z) ** 2 - 0.01
    assert found.n_fixed == math.ceil(4 / room)
    assert Z * noise.error(found.n_fixed, 400) <= 0.3 + 1e-6 < Z * noise.error(found.n_fixed - 5, 400)
    small = sized(result(share=0.5), noise, 0.2, 0.8, 0.05)
    assert small.n_fixed is None and any("no number of generated ones" in line for line in small.says)
    assert any("cannot be seen with this reference" in line for line in small.says)


def test_more_power_and_smaller_differences_need_more_and_far_plans_say_so() -> None:
    own = result()
    noise = noise_of(own, own)
    needs = [sized(own, noise, d, p, a).n for d, p, a in ((0.2, 0.8, 0.05), (0.2, 0.9, 0.05), (0.2, 0.9, 0.01))]
    assert needs == sorted(needs) and len(set(needs)) == 3
    far = sized(own, noise, 0.01, 0.8, 0.05)
    assert any("order of magnitude" in line for line in far.says)
    sizes, differences = zip(*far.table, strict=True)
    assert list(sizes) == sorted(sizes) and list(differences) == sorted(differences, reverse=True)
    assert dict(far.table)[far.n] == pytest.approx(0.01, rel=1e-3)


def test_differences_are_absolute_or_relative() -> None:
    assert amount("0.5", result()) == 0.5 and amount("5%", result(value=20.0)) == 1.0
    for text in ("five", "-1", "0", "nan", "inf"):
        with pytest.raises(BadSetting, match="detect"):
            amount(text, result())
    with pytest.raises(BadSetting, match="give a difference in its unit"):
        amount("5%", result(value=-0.1))


def test_records_of_unlike_protocols_are_not_planned_together() -> None:
    with pytest.raises(BadRecord, match="unlike protocols"):
        noise_of(result(), replace(result(), protocol="q"))


def test_plan_from_records(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("good", "bad"):
        assert run(["score", name, "--real", "real", "-m", "fid@pixels,kid@pixels", "-o", f"{name}.json", "-q"]) == 0
    capsys.readouterr()
    start = ["plan", "--pilot", "bad.json", "-m", "fid@pixels", "--detect", "10%"]
    assert run(start) == 0
    assert "samples a side show a difference of" in capsys.readouterr().out
    plans = {}
    for extra in ((), ("--limit",), ("--paired",), ("--against", "good.json")):
        assert run([*start, *extra, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["schema"] == "evalkit.plan/1"
        [plans[extra[:1]]] = document["plans"]
    assert plans["--limit",]["n"] <= plans[()]["n"] and plans["--paired",]["n"] <= plans[()]["n"]
    for extra, says in (
        (["--pilot", "bad.json", "-m", "kid", "--detect", "1"], "'kid'"),
        (["--pilot", "bad.json", "-m", "fid@pixels", "--detect", "1", "--power", "2"], "power"),
        (["--pilot", "bad.json", "-m", "fid@pixels", "--detect", "1", "--paired", "--limit"], "exclude each other"),
        (["-m", "fid@pixels", "--detect", "1"], "give one pilot"),
        (["bad", "-m", "fid@pixels", "--detect", "1"], "--real SOURCE"),
        (["--pilot", "none.json", "-m", "fid@pixels", "--detect", "1"], "cannot read record"),
    ):
        code, line = failed(capsys, ["plan", *extra, "-q"])
        assert code == 2 and says in line


def test_plan_from_samples_checks_the_law(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "bad", "--real", "real", "-m", "fid@random_conv,auroc@spectrum", "--detect", "5%", "-q"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("the error goes as n^") == 2 and "<- the pilot" in shown
