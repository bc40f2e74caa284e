"""The shortcut audit: a newline, a prefix, a copy is found and named; cleaning leaves what the texts say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import evalkit
from evalkit.cli import run
from evalkit.errors import BadSetting, ModalityMismatch, NothingToEvaluate, TooFewSamples, UsageError
from evalkit.samples import ListedSet, open_samples
from evalkit.samples.arrays import from_texts
from evalkit.shortcuts.auditing import audited
from evalkit.shortcuts.choosing import scored
from evalkit.shortcuts.cleaning import cleaned
from evalkit.shortcuts.reading import Side, read
from tests.conftest import failed
from tests.data import shared

from .toys import images

WORDS = "the a river stone walks slowly under bright old trees and nobody knows why they sing".split()  # noqa: SIM905


def prose(seed: int, n: int = 4) -> str:
    """n sentences of eight random words; equal seeds, equal texts."""
    rng = np.random.default_rng(seed)
    return " ".join(" ".join(rng.choice(WORDS, 8)).capitalize() + "." for _ in range(n))


def texts(start: int, n: int = 40, sentences: int = 4) -> list[str]:
    return [prose(seed, sentences) for seed in range(start, start + n)]


def side(given: Sequence[str], name: str = "side") -> Side:
    return read(from_texts(given, name), 0)[0]


def audit(real: Sequence[str], fake: Sequence[str]) -> dict:  # type: ignore[type-arg]
    study = evalkit.audit_data(from_texts(real, "real"), [from_texts(fake, "fake")])
    plain: dict = study.data["fakes"][0]  # type: ignore[type-arg]
    return plain


def auc(found: dict, rule: str) -> float:  # type: ignore[type-arg]
    return float(next(r["auc"] for r in found["rules"] if r["name"] == rule))


# Finding --------------------------------------------------------------------------------------------------------------


def test_a_newline_of_one_side_is_found_named_and_cleaned_away() -> None:
    fake = [text.replace(". ", ".\n", 1) for text in texts(1000)]
    study, _ = audited(from_texts(texts(0), "real"), from_texts(fake, "fake"))
    [found] = study.data["fakes"]
    best = found["as_given"]["best"]
    assert (best["rule"], best["fakes_have"], best["auc"]) == ("newline", "more often", 1.0)
    assert study.data["over_limit"] == ["fake"] and best["low"] > 0.8 and best["n"] == {"real": 20, "fake": 20}
    assert "'contains a newline' (more often in the fakes)" in study.findings[0] and study.warnings
    assert auc(found["cleaned"], "newline") == 0.5 and found["cleaned"]["best"]["low"] < 0.6
    assert found["cleaned"]["n"] == {"real": 40, "fake": 40}


def test_two_draws_of_one_source_are_not_accused() -> None:
    found = audit(texts(0, 150), texts(1000, 150))
    best = found["as_given"]["best"]
    assert best["low"] <= 0.5 <= best["high"]
    # Of so many rules the largest is well above one half: it is not what is said.
    assert best["chosen_by"] > 0.5 and not found["fakes_that_copy_a_real"]


def test_the_best_rule_says_which_way_it_points() -> None:
    found = audit(texts(0, sentences=6), texts(1000, sentences=2))["as_given"]
    assert found["best"]["fakes_have"] == "less" and found["best"]["auc"] == 1 and auc(found, "words") == 0


def test_texts_of_one_opening_are_one_group_and_in_one_half() -> None:
    """Each human text and its continuation share ten words; so half of the groups has as many of each side."""
    openings = [" ".join(np.random.default_rng(seed).permutation(WORDS)[:10]) for seed in range(40)]
    real = [f"{o} {prose(i)}" for i, o in enumerate(openings)]
    fake = [f"{o} {prose(500 + i)}" for i, o in enumerate(openings)]
    found = audit(real, fake)
    assert found["as_given"]["groups"] == 40 and found["fakes_that_open_like_a_real"] == 40
    assert found["as_given"]["best"]["n"] == {"real": 20, "fake": 20}
    assert auc(found["as_given"], "opening") == 0.5


def test_repeated_texts_of_one_side_are_said_but_no_rule_for_one_text() -> None:
    study, _ = audited(from_texts(texts(0), "real"), from_texts([prose(1000 + i // 4) for i in range(40)], "fake"))
    [found] = study.data["fakes"]
    assert auc(found["as_given"], "copies") == 1 and found["as_given"]["best"]["rule"] != "copies"
    assert any("'exact copies in the set' has AUROC 1.000" in words for words in study.findings)
    assert found["cleaned"]["dropped"]["copies"] == {"real": 0, "fake": 30} and found["cleaned"]["n"]["fake"] == 10


def test_copies_of_what_is_learnt_from_are_counted() -> None:
    given = from_texts([*texts(0, 3), *texts(5000, 30)], "train")
    study = evalkit.audit_data(from_texts(texts(0), "real"), [from_texts(texts(1000), "fake")], train=[given])
    crossing = study.data["fakes"][0]["across_splits"]
    assert crossing[0] == {"set": "real", "train": "train", "n": 40, "copies": 3, "openings": 3}
    assert crossing[1]["copies"] == 0 and any("3 are copies of a text of train" in words for words in study.findings)


def test_order_of_the_texts_changes_nothing() -> None:
    real, fake = texts(0), [f"{text} " for text in texts(1000)]
    one, other = audit(real, fake)["as_given"], audit(real[::-1], fake[::-1])["as_given"]
    assert one["best"] == other["best"]
    assert {r["name"]: r["auc"] for r in one["rules"]} == pytest.approx({r["name"]: r["auc"] for r in other["rules"]})


# Cleaning -------------------------------------------------------------------------------------------------------------


def test_cleaning_does_what_it_says_to_a_pair() -> None:
    opening = "Once upon a time there lived a very old king"
    left = cleaned(
        side([f"{opening} who slept. He woke. He ate. And then he", "Alone here. Two of us. Three."]),
        side([f"{opening}  who ruled.\n\nHe fell", "Other text."]),
    )
    # Partners have two whole sentences and one; those without have three and one.
    assert left.real.texts == ("slept.", "Alone here.")
    assert left.fake.texts == ("ruled.", "Other text.")


def test_without_partners_both_sides_get_one_distribution_of_sentences() -> None:
    real = [prose(i, 2 + i % 5) for i in range(60)]
    fake = [prose(900 + i, 4 + i % 7) for i in range(60)]
    left = cleaned(side(real), side(fake))
    counts = [sorted(text.count(".") for text in s.texts) for s in (left.real, left.fake)]
    assert counts[0] == counts[1] and counts[0][0] == 2
    uneven = cleaned(side(real), side(fake[:25]))
    means = [np.mean([text.count(".") for text in s.texts]) for s in (uneven.real, uneven.fake)]
    assert means[0] == pytest.approx(means[1], abs=0.25)


def test_a_text_without_a_whole_sentence_goes_with_its_partner_and_is_counted() -> None:
    opening = "Once upon a time there lived a very old king"
    left = cleaned(side([f"{opening} who slept. He woke."]), side([f"{opening} and never an end"]))
    assert len(left.real) == len(left.fake) == 0 and left.cut_away == (1, 1) and left.copies == (0, 0)


def test_identical_sides_are_at_chance_and_cleaning_leaves_nothing() -> None:
    study, _ = audited(from_texts(texts(0), "real"), from_texts(texts(0), "fake"))
    [found] = study.data["fakes"]
    assert all(rule["auc"] == pytest.approx(0.5) for rule in found["as_given"]["rules"])
    assert found["fakes_that_copy_a_real"] == 40 and "40 of 40 fake texts are exact copies" in " ".join(study.findings)
    assert "0 readable texts" in found["cleaned"]["none"] and not study.data["over_limit"]


def test_cleaning_again_changes_nothing_more() -> None:
    once = cleaned(side(texts(0)), side([text.replace(" ", "  ") for text in texts(1000)]))
    again = cleaned(once.real, once.fake)
    assert (again.real, again.fake) == (once.real, once.fake)


# What comes in --------------------------------------------------------------------------------------------------------


def test_images_are_the_leak_audits_and_modalities_do_not_mix() -> None:
    one, other = images(20, name="a"), images(20, seed=3, name="b")
    assert evalkit.audit_data(one, [other]) == evalkit.leaks(one, [other])
    with pytest.raises(ModalityMismatch, match="holds image samples, expected text"):
        evalkit.audit_data(from_texts(texts(0)), [one])
    with pytest.raises(BadSetting, match="are for texts"):
        evalkit.audit_data(one, [other], groups="source")


def test_what_cannot_be_audited_is_said_in_one_line() -> None:
    real = from_texts(texts(0), "real")
    with pytest.raises(TooFewSamples, match="'fake' has 9 readable texts; the audit needs 10"):
        evalkit.audit_data(real, [from_texts(texts(1000, 9), "fake")])
    with pytest.raises(NothingToEvaluate, match=r"no readable text among the 2 of 'fake'.*empty text"):
        evalkit.audit_data(real, [from_texts([" ", "\n"], "fake")])
    with pytest.raises(UsageError, match="two fake sets are called 'fake'"):
        evalkit.audit_data(real, [from_texts(texts(1000), "fake"), from_texts(texts(2000), "fake")])
    with pytest.raises(BadSetting, match=r"limit 1\.5"):
        evalkit.audit_data(real, [real], limit=1.5)
    with pytest.raises(UsageError, match="no fake set"):
        evalkit.audit_data(real, [])


def test_odd_texts_are_scored_or_listed() -> None:
    """One character, a megabyte in a line, marks of direction, and a text that is no Unicode."""
    odd = ["x", "שלום\u200f עולם", "y" * 10**6, "\ud800 broken"]
    study, _ = audited(from_texts(texts(0), "real"), from_texts([*odd, *texts(1000)], "fake"))
    assert [out.reason for _, out in study.excluded] == ["not valid Unicode at character 0"]
    [found] = study.data["fakes"]
    assert found["as_given"]["n"] == {"real": 40, "fake": 43} and auc(found["as_given"], "invisible") > 0.5
    assert found["cleaned"]["dropped"]["without_whole_sentence"]["fake"] == 3


def test_one_group_for_all_leaves_no_best_rule_and_says_why() -> None:
    same = [f"Once upon a time there lived a very old king {prose(i)}" for i in range(30)]
    found = scored(side(same[:15]), side(same[15:]), seed=0)
    assert found.best is None and "too few groups" in found.why and found.groups == 1


# The command line -----------------------------------------------------------------------------------------------------


def written(path: Path, rows: Sequence[str | dict[str, str]]) -> str:
    lines = [json.dumps({"text": row} if isinstance(row, str) else row) for row in rows]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


@pytest.fixture
def files(at_home: Path) -> tuple[str, str]:
    fake = [text.replace(". ", ".\n", 1) for text in texts(1000)]
    return written(at_home / "human.jsonl", texts(0)), written(at_home / "machine.jsonl", fake)


def test_the_command_prints_writes_and_with_strict_fails(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit-data", *files, "-o", "a.json", "-o", "a.html", "--out", "pages", "--out-clean", "clean"]) == 0
    out = capsys.readouterr().out
    assert "has AUROC 1.000" in out and "contains a newline" in out
    study = json.loads(Path("a.json").read_text())
    assert study["schema"] == "evalkit.shortcuts/1" and study["over_limit"] == ["machine"]
    assert {p.name for p in Path("pages").iterdir()} == {"index.html", "study.json", "study.csv", "study.md"}
    left = open_samples("clean/machine.fake.jsonl")
    assert len(left) == 40 and not any("\n" in str(s.load()) for s in left)
    assert run(["audit-data", *files, "--strict", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["fakes"] == study["fakes"]
    assert "not an empty folder" in failed(capsys, ["audit-data", *files, "--out-clean", "clean"])[1]


def test_groups_come_from_a_field_of_the_file(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    human, machine = (
        written(at_home / f"{name}.jsonl", [{"text": t, "topic": str(i // 2)} for i, t in enumerate(texts(start))])
        for name, start in (("human", 0), ("machine", 1000))
    )
    assert run(["audit-data", human, machine, "--groups", "topic", "-o", "a.json"]) == 0
    assert json.loads(Path("a.json").read_text())["fakes"][0]["as_given"]["groups"] == 20
    capsys.readouterr()
    code, line = failed(capsys, ["audit-data", human, machine, "--groups", "author"])
    assert code == 2 and "no text of 'human' has it" in line


def test_unreadable_texts_over_one_per_cent_are_inconclusive(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (at_home / "human.txt").write_bytes("\n".join(texts(0)).encode() + b"\nbroken \xff line\n")
    machine = written(at_home / "machine.jsonl", texts(1000))
    assert run(["audit-data", "human.txt", machine]) == 4
    out = capsys.readouterr()
    assert "not valid UTF-8 at byte 7" in out.out and "1 of 41 samples of 'human'" in out.err


def test_a_detector_stands_beside_the_best_rule_and_judges_cleaned_texts(
    files: tuple[str, str], at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "detector", "ngram_lr", "--real", files[0], "--fake", files[1], "--clean", "--out", "model"]
    assert run(train) == 0
    assert "40 of 40 real and 40 of 40 fake texts are left by --clean" in capsys.readouterr().err
    fake = [text.replace(". ", ".\n", 1) for text in texts(3000, 30)]
    written(at_home / "both.jsonl", [*texts(2000, 30), *fake])
    truth = ["id,label", *(f"line-{i},{'real' if i <= 30 else 'fake'}" for i in range(1, 61))]
    (at_home / "truth.csv").write_text("\n".join(truth))
    detect = ["detect", "both.jsonl", "--with", "model", "--truth", "truth.csv"]
    assert run([*detect, "-o", "d.json", "-o", "d.md"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("before any detector: the best trivial rule, 'contains a newline'")
    document = json.loads(Path("d.json").read_text())
    assert document["shortcut"]["auc"] == 1 and document["shortcut"]["cleaned"]["auc"] < 0.8
    assert Path("d.md").read_text().index("Before any detector") < Path("d.md").read_text().index("ngram_lr: ")
    assert run([*detect, "--clean", "-o", "c.json"]) == 0
    again = json.loads(Path("c.json").read_text())
    assert again["source"]["n"] == 60 and again["shortcut"]["auc"] < 0.8 and "left by --clean" in again["warnings"][0]
    capsys.readouterr()
    assert "--truth FILE" in failed(capsys, ["detect", "both.jsonl", "--with", "model", "--clean"])[1]
    assert "is for detectors" in failed(capsys, ["train", "generator", "lm", "--clean", "--out", "g"])[1]


def test_a_board_shows_the_best_rule_before_a_detector(files: tuple[str, str]) -> None:
    assert run(["compare", files[1], "--real", files[0], "-m", "auroc@ngram_lr", "--out", "report"]) == 0
    page = Path("report/index.html").read_text()
    table = page.index("What trivial rules give away")
    assert "contains a newline (more often)" in page[table:] and page.index("1.000 [0.8", table) > table
    assert table < page.index("false positive rate")


# Released sets --------------------------------------------------------------------------------------------------------


def pairs(name: str) -> tuple[ListedSet, ListedSet]:
    given = json.loads(shared("data", "text", "fastdetectgpt", "exp_gpt3to4", f"{name}.raw_data.json").read_text())
    return from_texts(given["original"], "human"), from_texts(given["sampled"], "machine")


@pytest.mark.parametrize(("name", "newline"), [("xsum_gpt-3.5-turbo", 0.993), ("xsum_gpt-4", 0.970)])
def test_a_newline_solves_the_released_pairs(name: str, newline: float) -> None:
    study = evalkit.audit_data(*pairs(name))
    [found] = study.data["fakes"]
    assert auc(found["as_given"], "newline") == pytest.approx(newline, abs=6e-4)
    assert found["as_given"]["best"]["rule"] == "newline" and found["as_given"]["best"]["low"] > 0.9
    assert found["fakes_that_open_like_a_real"] >= 0.9 * 150 and found["as_given"]["groups"] <= 160
    assert auc(found["cleaned"], "newline") == auc(found["cleaned"], "final_punctuation") == 0.5
    # What cleaning does not take away: machines use longer words.
    assert found["cleaned"]["best"]["rule"] == "word_length" and found["cleaned"]["best"]["auc"] > 0.85


def test_a_set_without_the_newline_has_the_published_figures() -> None:
    rows = json.loads(shared("data", "text", "detectrl", "direct_prompt_test.json").read_text())
    human = from_texts([row["text"] for row in rows if row["label"] == "human"], "human")
    machine = from_texts([row["text"] for row in rows if row["label"] != "human"], "machine")
    found = scored(read(human, 0)[0], read(machine, 0)[0], seed=0)
    values = {rule.name: rule.auc.value for rule in found.rules}
    expected = {"newline": 0.500, "final_punctuation": 0.524, "words": 0.431}
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=6e-4)
