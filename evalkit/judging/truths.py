"""What samples are known to be: one word for all of them, or a .csv of id and label."""

from __future__ import annotations

import csv
from pathlib import Path

from ..errors import BadSource, UsageError
from ..types import SampleSet

LABELS = {
    "real": "real",
    "human": "real",
    "authentic": "real",
    "0": "real",
    "fake": "fake",
    "synthetic": "fake",
    "1": "fake",
}


def labels_of(truth: str, samples: SampleSet) -> list[str | None]:
    """real, fake, or None where nothing is known, for each sample in order.

    truth: the word real or fake, or a .csv file with columns id and label. Raises UsageError when it is neither,
    BadSource when the file cannot be read or names no sample.
    """
    if truth in ("real", "fake"):
        return [truth] * len(samples)
    path = Path(truth)
    if not path.is_file():
        lacking = " (no such file)" if path.suffix else ""
        raise UsageError(f"--truth {truth!r}{lacking}; expected real, fake, or a .csv file with columns id and label")
    try:
        rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
        wrong = next((row for row in rows if row["label"].strip().lower() not in LABELS), None)
        if wrong is not None:
            raise BadSource(f"truth file {truth!r}: label {wrong['label']!r} of {wrong['id']!r}; expected real or fake")
        known = {row["id"]: LABELS[row["label"].strip().lower()] for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadSource(f"cannot read truth file {truth!r}: {error}") from error
    except KeyError as error:
        raise BadSource(f"truth file {truth!r} has no column {error}; expected id and label") from error
    labels = [known.get(s.id) for s in samples]
    if not any(labels):
        raise BadSource(
            f"truth file {truth!r} names none of the {len(labels)} samples, such as {next(iter(samples)).id!r}"
        )
    return labels
