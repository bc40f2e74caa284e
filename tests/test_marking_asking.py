"""What is asked of a generator's marks: read, refused, and decided by exact intervals."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest, fisher_exact

from evalkit.errors import BadSetting, UnknownName
from evalkit.marking.asking import Ask, answered, required, survived
from evalkit.marking.surveying import Looked, Survey
from evalkit.types import Excluded
from tests.toys import images


def survey(found: int, n: int, *, layer: str = "watermark", lost: int = 0) -> Survey:
    files = tuple(Looked(str(i), True, {"copy": frozenset([layer] if i < found else [])}, (), ()) for i in range(n))
    excluded = tuple(Excluded(str(i), "torn") for i in range(lost))
    return Survey(images(1), files, excluded, ())


@pytest.mark.parametrize(
    ("found", "n", "share", "answer"),
    [
        (72, 72, 0.95, "passed"),  # the lower end is 0.025 ^ (1/72) = 0.9501
        (71, 71, 0.95, "inconclusive"),
        (5, 5, 0.9, "inconclusive"),
        (0, 5, 0.9, "failed"),
        (80, 100, 0.9, "failed"),
        (90, 100, 0.9, "inconclusive"),
        (97, 100, 0.9, "passed"),
        (100, 100, None, "passed"),
        (99, 100, None, "failed"),
        (2, 2, None, "passed"),
    ],
)
def test_asks_are_decided_by_the_exact_interval(found: int, n: int, share: float | None, answer: str) -> None:
    assert answered(Ask("watermark", "copy", share), survey(found, n), None).answer == answer
    if share is not None:
        low, high = binomtest(found, n).proportion_ci(0.95, "exact")
        assert answer == ("passed" if low >= share else "failed" if high < share else "inconclusive")


def test_nothing_passes_that_is_found_as_often_in_real_files_or_when_files_are_missing() -> None:
    ask = Ask("watermark", "copy", None)
    assert answered(ask, survey(9, 9), survey(0, 9)).answer == "passed"
    assert answered(ask, survey(9, 9), survey(9, 9)).answer == "inconclusive"
    # Three of four reals: Fisher's p is 4/13, no difference to rely on; none of four: 1/715.
    assert fisher_exact([[9, 0], [3, 1]], alternative="greater").pvalue == pytest.approx(4 / 13)
    assert answered(ask, survey(9, 9), survey(3, 4)).answer == "inconclusive"
    assert answered(ask, survey(9, 9), survey(0, 4)).answer == "passed"
    assert answered(ask, survey(98, 98, lost=2), None).answer == "inconclusive"
    assert answered(ask, survey(199, 199, lost=1), None).answer == "passed"
    # What has failed has failed, whatever else is wrong.
    assert answered(ask, survey(1, 9), survey(9, 9)).answer == "failed"
    assert answered(ask, survey(0, 0), None).answer == "inconclusive"


def test_asks_are_read_and_refused() -> None:
    assert required(["metadata", "corner:0.9"], ["corner"]) == (
        Ask("metadata", "copy", None),
        Ask("corner", "copy", 0.9),
    )
    assert survived(["watermark=jpeg75:0.9", "both=copy"], [], ["copy", "jpeg75"]) == (
        Ask("watermark", "jpeg75", 0.9),
        Ask("both", "copy", None),
    )
    for wrong in (["wotermark"], ["watermark:0"], ["watermark:1.1"], ["watermark:"], ["watermark:x"]):
        with pytest.raises((BadSetting, UnknownName)):
            required(wrong, [])
    for wrong in (["watermark"], ["watermark=blur"], ["watermark=jpeg75:"], ["x=jpeg75"], ["=jpeg75"]):
        with pytest.raises((BadSetting, UnknownName)):
            survived(wrong, [], ["copy", "jpeg75"])
