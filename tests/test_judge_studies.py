"""Whole studies with simulated raters: known sensitivity comes back, numbers join the board, pages without a server."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from evalkit.cli import run
from evalkit.human.conducting import judge, open_study
from evalkit.human.sheets import export
from evalkit.human.store import Store
from evalkit.human.trials import Shown, answer_to, sheet_of
from evalkit.serving import Request
from tests.conftest import failed
from tests.test_judge import NAMES, make_sets, post, served

REAL, GAN, VAE = NAMES
# How far each set lies from real, in standard deviations of what a rater sees: the better fake is harder to tell.
SENSITIVITY = {REAL: 0.0, GAN: 0.6, VAE: 2.0, "": 9.0}


def said(store: Store, trial: Shown, rng: random.Random) -> dict[str, Any]:
    """What an ideal observer with unit noise answers to a trial; only here is the key looked at."""
    seen = [SENSITIVITY.get(store.sets[s], 1.0) + rng.gauss(0, 1) for s in trial.stimuli]
    if len(seen) == 2:
        return {"answer": "left" if seen[0] < seen[1] else "right", "confidence": None, "ms": 900}
    x = seen[0] - 0.6
    size = 1 + sum(abs(x) > edge for edge in (0.4, 0.9, 1.4))
    return {"answer": "fake" if x > 0 else "real", "confidence": size, "ms": 900}


def conduct(
    store: Store, names: list[str], say: Callable[[Store, Shown, random.Random], Mapping[str, Any]] = said
) -> None:
    """Every rater through the whole study: the first one over HTTP, the others written to the study at once."""
    for name in names[1:]:
        rng, rater = random.Random(name), store.rater(name)
        sheet = sheet_of(store, name)
        found = [answer_to(t, {**say(store, t, rng), "key": t.name}, store.terms.mode) for t in sheet]
        assert store.add(rater.number, found) == len(sheet)
    with served(judge(store)) as url:
        trials, rng = {t.name: t for t in sheet_of(store, names[0])}, random.Random(names[0])
        begun = post(f"{url}begin", {"rater": names[0]})[1]
        for done, shown in enumerate(begun["trials"], 1):
            answer = {**say(store, trials[shown["id"]], rng), "key": shown["id"]}
            assert (
                post(f"{url}answer", {"session": begun["session"], "trial": shown["id"], **answer})[1]["done"] == done
            )


@pytest.fixture
def sets(at_home: Path) -> Path:
    make_sets(at_home, 60)
    return at_home


@pytest.mark.parametrize("mode", ["real-or-fake", "2afc"])
def test_a_study_recovers_the_sensitivity_of_its_raters(
    sets: Path, mode: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes = {name: str(sets / name) for name in (GAN, VAE)}
    with closing(
        open_study(fakes, str(sets / REAL), Path("faces study.sqlite"), mode=mode, items=60, catch=0.1)
    ) as store:
        conduct(store, [f"rater {i}" for i in range(6)])
        # One who does not look: always the same answer.
        same = {"answer": "real" if mode == "real-or-fake" else "left", "confidence": 1, "ms": 90}
        conduct(store, ["careless"], lambda *_: same)
    assert run(["judge", "--summary", "faces study.sqlite", "--out", "sum"]) == 0
    shown = capsys.readouterr()
    assert "careless is set aside" in shown.err and "looks more real" in shown.out
    found = json.loads(Path("sum/study.json").read_text())
    assert [r["name"] for r in found["raters"] if r["aside"]] == ["careless"] and len(found["raters"]) == 7
    for name in (GAN, VAE):
        told = found["sets"][name]["dprime"]
        assert told["low"] < SENSITIVITY[name] < told["high"], (name, told)
        assert told["high"] - told["low"] < 2.5
    lead = "auc" if mode == "real-or-fake" else "accuracy"
    assert found["sets"][GAN][lead]["value"] < found["sets"][VAE][lead]["value"]
    [rate] = [w for w in found["win_rates"] if w["winner"] == GAN]
    assert rate["low"] > 0.5 and 0 < found["alpha"]["value"] < 1 and found["consistency"] > 0.5
    assert ("bradley_terry" in found) and (
        list(found["bradley_terry"]) == ([] if mode != "2afc" else sorted(NAMES, key=str))
    )
    page = Path("sum/index.html").read_text()
    assert "Krippendorff" in page and "careless" in page


def test_numbers_of_people_join_the_board(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fakes = {name: str(sets / name) for name in (GAN, VAE)}
    with closing(open_study(fakes, str(sets / REAL), Path("study.sqlite"), items=24)) as store:
        conduct(store, ["a", "b"])
    assert run(["score", GAN, "--real", REAL, "-m", "fid@pixels", "-o", "gan.json", "-q"]) in (0, 4)
    before = Path("gan.json").read_bytes()
    assert run(["judge", "--summary", "study.sqlite", "--into", "gan.json", "--out", "both.json"]) == 0
    assert Path("gan.json").read_bytes() == before
    names = [r["name"] for r in json.loads(Path("both.json").read_text())["results"]]
    parts = ("auc", "accuracy", "dprime", "passed_for_real")
    assert names == ["fid@pixels", *(f"human@study.{part}" for part in parts)]
    assert run(["judge", "--summary", "study.sqlite"]) == 0
    capsys.readouterr()
    records = [f"study-summary/records/human-{name}.json" for name in (GAN, VAE)]
    assert run(["compare", *records, "--out", "board"]) == 0
    assert f"{GAN} leads on human@study.auc" in capsys.readouterr().out
    code, line = failed(capsys, ["judge", "--summary", "study.sqlite", "--into", "gan.json", "--out", "both.json"])
    assert code == 2 and "exists already" in line
    code, line = failed(capsys, ["judge", "--summary", "study.sqlite", "--into", "both.json", "--out", "more.json"])
    assert code == 2 and "has human@study" in line


def test_a_page_without_a_server_gives_nothing_away_and_its_answers_come_back(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["judge", GAN, "--real", REAL, "--items", "12", "--out", "s.sqlite"]
    assert run([*arguments, "--static", "away"]) == 0
    files = sorted(p for p in Path("away").rglob("*") if p.is_file())
    assert len({p.stat().st_size for p in files if p.suffix == ".png"}) == 1 and len(files) > 10
    for file in files:
        assert not any(word.encode() in file.read_bytes() for word in (*NAMES, "secretcamera"))
    facts = json.loads(Path("away/index.html").read_text().split('id="facts">')[1].split("</script>")[0])
    with closing(Store(Path("s.sqlite"))) as store:
        sheet = {t.name: t for t in sheet_of(store, "sheet 5", shared_media=True)}
        assert [t["id"] for t in facts["sheets"]["sheet 5"]] == list(sheet)
        rng = random.Random(1)
        answers = [{"trial": name, **said(store, t, rng), "key": name} for name, t in sheet.items()]
    body = {
        "schema": "evalkit.answers/1",
        "study": facts["study"],
        "rater": "Ada",
        "sheet": "sheet 5",
        "answers": answers,
    }
    Path("ada.json").write_text(json.dumps(body))
    for added in (len(answers), 0):
        assert run(["judge", "--collect", "ada.json", "--out", "s.sqlite"]) == 0
        assert f"Ada: {added} answers added" in capsys.readouterr().out
    assert run(["judge", "--summary", "s.sqlite"]) in (0, 4)
    capsys.readouterr()
    for change in (
        {"schema": "evalkit.answers/2"}, {"study": "other"}, {"sheet": "sheet 99"}, {"sheet": ["sheet 5"]},
        {"answers": {}}, {"answers": [1]}, {"answers": [{**answers[0], "trial": "none"}]}, {"rater": "\u202e"},
        {"answers": [*answers, {**answers[0], "answer": "left"}]}, {"sheet": "sheet 6", "answers": []},
    ):  # fmt: skip
        Path("bad.json").write_text(json.dumps({**body, **change}))
        code, line = failed(capsys, ["judge", "--collect", "bad.json", "--out", "s.sqlite"])
        assert code == 2 and "bad.json" in line, change
    for text in ("", "[" * 100_000, "[]", '{"schema": NaN}', "\x00"):
        Path("bad.json").write_text(text)
        assert failed(capsys, ["judge", "--collect", "bad.json", "--out", "s.sqlite"])[0] == 2
    with closing(Store(Path("s.sqlite"))) as store:
        assert [(r.name, len(r.answers)) for r in store.raters()] == [("Ada", len(sheet))]
        with pytest.raises(Exception, match="not empty"):
            export(store, Path("away"))


def test_texts_are_judged_too(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, word in (("human.txt", "sea"), ("model.txt", "see")):
        Path(name).write_text("\n".join(f"The {word} of day {i} was  calm." for i in range(40)))
    with closing(open_study({"model": "model.txt"}, "human.txt", Path("t.sqlite"), items=12)) as store:
        [first, *_] = sheet_of(store, "Ada")
        shown = [store.stimulus(i) for i, name in enumerate(store.sets) if name]
        assert all(b"  " not in s.body and s.width == 0 for s in shown)
        from evalkit.human.service import Judging

        application = Judging(store, "Ada")
        application(Request("POST", "begin", {}, b"{}"))
        reply = application(Request("GET", f"media/{first.media[0]}"))
        assert reply.kind.startswith("text/plain") and b"model" not in reply.body
    code, line = failed(capsys, ["judge", "--summary", "t.sqlite"])
    assert code == 4 and "nobody has answered yet" in line


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--items", "6"], "expected 8 to"),
        (["--catch", "0.9"], "0 to 0.3"),
        (["--items", "200"], "lower --items"),
        (["--seed", "5", "--out", "kept.sqlite"], "another --out"),
        (["--out", "notes.txt"], "not a study"),
        (["--json"], "--summary"),
    ],
)
def test_mistakes_are_one_line(sets: Path, extra: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.txt").write_text("mine")
    with closing(open_study({GAN: GAN}, REAL, Path("kept.sqlite"), items=60)):
        pass
    code, line = failed(capsys, ["judge", GAN, "--real", REAL, *extra])
    assert code == 2 and words in line
    assert Path("notes.txt").read_text() == "mine"


def test_hostile_names_of_sets_and_files_do_no_harm(at_home: Path) -> None:
    make_sets(at_home, 20)
    odd = '"><img src=x onerror=alert(1)>'
    with closing(open_study({odd: GAN}, REAL, Path("x.sqlite"), items=12)) as store:
        conduct(store, ["<b>Ada</b>", "Bob"])
    assert run(["judge", "--summary", "x.sqlite", "--out", "sum"]) == 0
    page = Path("sum/index.html").read_text()
    assert "<img src=x" not in page and "<b>Ada</b>" not in page and "&lt;b&gt;Ada" in page
