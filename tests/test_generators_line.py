"""Generators in the line: with controls, as model folders, given inputs, trained further, as instruments, costed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from evalkit import hardware
from evalkit.cli import run
from evalkit.critic import DetectorCritic
from evalkit.drawings import Generated, summary, write_samples
from evalkit.entrants import is_generator, split_controls
from evalkit.errors import BadSetting, DoesNotApply, ModalityMismatch, RunFailed, UsageError
from evalkit.extractors.causal.columns import ZERO_SHOT, named
from evalkit.generation import Unfinished, generate, generate_given, trained
from evalkit.likelihoods import LikelihoodOf
from evalkit.measurement import Bench, measure
from evalkit.metrics.speed import energy, flops
from evalkit.samples import open_samples, select
from evalkit.samples.arrays import from_images, from_texts
from evalkit.types import Batch, Timing
from generators._training import LastGood
from tests.quick import QUICK, fitted, make

pytestmark = pytest.mark.usefixtures("at_home")


def spec(name: str) -> str:
    """The generator with hardly any training, as a subject of the command line."""
    controls = ",".join(f"{k}={v}" for k, v in QUICK.get(name, {}).items())
    return f"{name}:{controls}" if controls else name


def test_a_subject_may_carry_controls() -> None:
    assert split_controls("gan:steps=3,width=64") == ("gan", {"steps": "3", "width": "64"})
    assert split_controls("command:command=python x.py --list=1,2,timeout=5")[1] == {
        "command": "python x.py --list=1,2",
        "timeout": "5",
    }
    assert is_generator("gan") and is_generator("gan:steps=3")
    assert not is_generator("./gan") and not is_generator("gan:") and not is_generator("s3://gan")


def test_compare_shows_a_generator_twice_with_other_controls_and_a_trained_folder(tmp_path: Path) -> None:
    train = ["train", "generator", "vae", "--set", "steps=20", "--out", "mine", "-q"]
    assert run(train) == 0
    subjects = ["vae:steps=20,latent=4", "mine", "noise"]
    options = [
        "--real",
        "embedded:digits",
        "-m",
        "fid@pixels,held_out_bits,flops",
        "--n",
        "60",
        "--out",
        "report",
        "-q",
    ]
    assert run(["compare", *subjects, *options]) == 0
    board = json.loads(Path("report/leaderboard.json").read_text())["comparisons"][0]
    assert {row["name"] for row in board["rows"]} == {"vae:steps=20,latent=4", "mine", "noise"}
    records = [json.loads(p.read_text()) for p in Path("report/records").iterdir()]
    for record in records:
        timing = record["timing"]
        assert timing["best_batch"]["samples_per_second"] >= timing["samples_per_second"] * 0.999
        assert "joules_per_sample" not in timing or timing["joules_per_sample"] > 0
        if record["subject"]["name"] == "noise":
            assert "flops_per_sample" not in timing and timing["parameters"] == 0
        else:
            assert timing["training_seconds"] > 0 and timing["parameters"] > 1000 and timing["flops_per_sample"] > 0
        assert any("held_out_bits does not apply" in w for w in record["warnings"])
    page = Path("report/index.html").read_text()
    assert "Cost" in page and "training s" in page


def test_a_wrong_control_is_refused_before_anything_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "gan", "vae:latnt=3", "--real", "embedded:digits", "--out", "report"]) == 2
    assert "did you mean 'vae.latent'" in capsys.readouterr().err
    assert not Path("report").exists()


def test_a_seed_grid_has_one_row_a_generator_and_a_table_of_seeds() -> None:
    options = ["--real", "embedded:digits", "-m", "fid@pixels", "--n", "60", "--out", "report", "-q"]
    grid = ["--train-seeds", "2", "--sample-seeds", "2"]
    assert run(["compare", "vae:steps=20", "noise", "resample", *options, *grid]) == 0
    board = json.loads(Path("report/leaderboard.json").read_text())["comparisons"][0]
    assert len(board["rows"]) == 3
    records = {p.stem: json.loads(p.read_text()) for p in Path("report/records").iterdir()}
    assert len(records) == 4 + 4 + 2  # the ceiling has nothing to train
    digests = [r["subject"]["digest"] for name, r in records.items() if "vae" in name]
    assert len(set(digests)) == 4
    # Nothing of noise depends on the training seed, and its draws are four all the same.
    assert len({r["subject"]["digest"] for name, r in records.items() if "noise" in name}) == 4
    assert "sd retraining" in Path("report/index.html").read_text()
    assert any("Retraining moves" in line for line in board["verdict"])


@pytest.mark.parametrize("name", ["pixelcnn", "realnvp"])
def test_a_generator_with_likelihoods_is_an_instrument(name: str) -> None:
    generator = fitted(name)
    instrument = LikelihoodOf(generator, "0")
    digits = select(open_samples("embedded:digits/heldout"), range(40))
    rng = np.random.default_rng(0)
    noise = from_images(rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), "noise")
    real, fake = (measure(s, [instrument], Bench()).features[name].rows for s in (digits, noise))
    assert real.shape == (40, 3) and torch.all(real[:, 1:] == 64)
    assert real[:, 0].mean() < fake[:, 0].mean()
    assert LikelihoodOf(generator, "1").digest != instrument.digest
    with pytest.raises(UsageError, match="does not know how probable"):
        LikelihoodOf(fitted("gan"), "0")


def test_a_language_model_of_ours_has_the_heads_of_any_causal_model() -> None:
    """Against plain softmax over whole texts, one at a time; a character without a token is priced but not counted."""
    generator = fitted("lm")
    instrument = LikelihoodOf(generator, "0")
    texts = ["A short text.", "Another one, with more words than context has room for. " * 12, "snow \N{SNOWMAN} man"]
    rows = torch.stack([instrument(instrument.prepare(text)[None])[0] for text in texts]).double()
    batch = torch.stack([instrument.prepare(texts[0])] * 3)
    assert torch.allclose(instrument(batch).double(), rows[:1].expand(3, -1), rtol=1e-5, atol=1e-5)
    for text, row in zip(texts, rows, strict=True):
        ids = instrument.prepare(text)
        likelihood = generator.likelihood(ids[None])[0].double()
        assert torch.allclose(row[instrument.heads["likelihood"]], likelihood, rtol=1e-6)
        known, context = [t for t in ids.tolist() if t >= 0], int(generator._settings["context"])
        wanted = dict.fromkeys(("tokens", "log_p", "rank", "log_rank", "entropy", "variance"), 0.0)
        for start in range(0, len(known) - 1, context):
            window = torch.tensor(known[start : start + context + 1])
            with torch.no_grad():
                p = generator._net(window[None, :-1])[0][0].double().softmax(1)
            own = p.gather(1, window[1:, None])
            rank = 1 + (p > own).sum(1).double()
            entropy = -(p * p.log()).sum(1)
            wanted["tokens"] += len(own)
            wanted["log_p"] += float(own.log().sum())
            wanted["rank"] += float(rank.sum())
            wanted["log_rank"] += float(rank.log().sum())
            wanted["entropy"] += float(entropy.sum())
            wanted["variance"] += float(((p * p.log() ** 2).sum(1) - entropy**2).sum())
        found = named(row[None, instrument.heads["zero_shot"]], ZERO_SHOT)
        for name, value in wanted.items():
            assert float(found[name]) == pytest.approx(value, rel=1e-4, abs=1e-4), (text, name)
    assert rows[2, 1] - rows[2, 3] == 1 and rows[2, 0] + rows[2, 4] > 20  # a snowman: 12 bits and three bytes


def test_likelihood_numbers_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    subjects = [spec("pixelrnn"), "noise", "resample"]
    options = ["--real", "embedded:digits", "--n", "40", "--out", "report", "-q"]
    assert run(["compare", *subjects, *options, "-m", "held_out_bits,bits_per_dim@markov_field"]) == 0
    board = json.loads(Path("report/leaderboard.json").read_text())["comparisons"][0]
    names = [c["name"] for c in board["columns"]]
    assert names == ["held_out_bits", "bits_per_dim@markov_field"]
    values = {row["name"]: [cell.get("value") for cell in row["cells"]] for row in board["rows"]}
    assert values["noise"][0] is None and values[spec("pixelrnn")][0] > 0
    assert values["noise"][1] > values["resample"][1]
    capsys.readouterr()
    assert run(["compare", "noise", *options, "-m", "fid@markov_field"]) == 2
    assert "gives likelihood" in capsys.readouterr().err
    Image = np.zeros((12, 8, 8, 3), np.uint8)
    np.save("a.npy", Image + np.arange(12, dtype=np.uint8)[:, None, None, None])
    assert run(["compare", "a.npy", "--real", "a.npy", *options[2:], "-m", "bits_per_dim@markov_field"]) == 2
    assert "--train SOURCE" in capsys.readouterr().err


def test_given_inputs_make_one_sample_each_and_prompts_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    Path("prompts.txt").write_text("a seven\na three\na seven\n")
    fitted("text_to_image").save(Path("model"))
    assert run(["generate", "model", "--input", "prompts.txt", "--out", "made", "-q"]) == 0
    about = json.loads(Path("made/set.json").read_text())
    assert about["n"] == 3 and about["input"]["n"] == 3
    assert len(about["made_of"]) == 3 and all((Path("made") / file).is_file() for file in about["made_of"])
    Path("blank.txt").write_text("a seven\n\na three\n")
    assert run(["generate", "model", "--input", "blank.txt", "--out", "none", "-q"]) == 2
    assert "remove it" in capsys.readouterr().err
    made = open_samples("made")
    assert [s.condition for s in made] == ["a seven", "a three", "a seven"] or len({s.group for s in made}) > 1
    assert sorted(s.condition for s in made) == ["a seven", "a seven", "a three"]
    capsys.readouterr()
    assert run(["generate", "gan", "--set", "steps=500000", "--input", "prompts.txt", "--out", "x", "-q"]) == 2
    assert "leave --input out" in capsys.readouterr().err
    assert run(["generate", "gan", "--out", "x", "-q"]) == 2
    assert "--n N" in capsys.readouterr().err
    with pytest.raises(ModalityMismatch, match="takes text"):
        generate_given(fitted("text_to_image"), select(open_samples("embedded:digits"), range(3)), 0, Bench())


def test_a_trained_lm_goes_on_from_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    fitted("lm").save(Path("base"))
    Path("new.txt").write_text("\n".join(f"The statement number {i} returns a value." for i in range(40)))
    start = ["train", "generator", "lm", "--from", "base", "--set", "steps=10", "--out", "tuned", "-q"]
    assert run(start) == 2
    assert "--data SOURCE" in capsys.readouterr().err
    assert run([*start[:5], "--data", "new.txt", "--out", "tuned", "-q"]) == 0
    card = json.loads(Path("tuned/card.json").read_text())
    assert card["trained_on"] == open_samples("new.txt").digest != fitted("lm").trained_on
    capsys.readouterr()
    fitted("vae").save(Path("vae"))
    assert run(["train", "generator", "vae", "--from", "vae", "--data", "embedded:digits", "--out", "y", "-q"]) == 2
    assert "cannot be trained further" in capsys.readouterr().err
    assert run(["train", "generator", "gan", "--from", "vae", "--data", "embedded:digits", "--out", "y", "-q"]) == 2
    assert "expected 'gan'" in capsys.readouterr().err


def test_a_diverged_training_saves_its_last_sound_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LastGood, "EVERY", 5)
    monkeypatch.setattr("generators.gan.NOISE", 0.3)
    real, calls = torch.nn.functional.softplus, []

    def turning_bad(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return real(x) * (float("nan") if len(calls) > 60 else 1.0)

    monkeypatch.setattr("generators.gan.F.softplus", turning_bad)
    with pytest.raises(Unfinished) as error:
        trained("gan", open_samples("embedded:digits/train"), seed=0, bench=Bench(), controls={"steps": 100})
    assert len(list(error.value.generator.sample(3, 0))) == 1
    calls.clear()
    assert run(["train", "generator", "gan", "--set", "steps=100", "--out", "left", "-q"]) == 3
    assert {p.name for p in Path("left").iterdir()} == {"card.json", "model.safetensors"}


class Guide:
    """A critic that calls an image fake by its brightness, and notes what it was shown."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def watch(self, images: np.ndarray) -> None:
        self.shown.append(len(images))

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return (images.mean((1, 2, 3)) - 60) / 4


def test_the_key_of_an_endpoint_is_no_unknown_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVALKIT_API_KEY", "sk-secret")
    assert run(["generate", "noise", "--n", "2", "--out", "made", "-q"]) == 0
    assert "sk-secret" not in Path("made/set.json").read_text() + "".join(capsys.readouterr())
    assert run(["generate", "openai", "--n", "2", "--out", "other", "-q"]) == 2
    assert "switched off" in capsys.readouterr().err


def test_a_critic_pulls_the_generator_its_way() -> None:
    """One that calls bright images fake makes the samples darker than no critic does."""
    data = open_samples("embedded:digits/train")
    plain, criticised, guide = (
        make("gan", steps=120),
        make("gan", steps=120, critic="guide", critic_weight=5.0),
        Guide(),
    )
    with pytest.raises(BadSetting, match="take_critic"):
        make("gan", critic="guide").fit(data, seed=0)
    criticised.take_critic(guide)
    for generator in (plain, criticised):
        generator.fit(data, seed=0)
    assert len(guide.shown) == 6
    bright, dark = (np.mean(next(g.sample(64, 0)).items) for g in (plain, criticised))
    assert dark < 0.8 * bright
    assert plain.recipe != criticised.recipe


def test_a_detector_as_critic_learns_what_it_is_shown_and_has_gradients() -> None:
    digits = open_samples("embedded:digits/train")
    critic = DetectorCritic("cnn", select(digits, range(60)), seed=0, device="cpu")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    critic.watch(noise)
    real = torch.from_numpy(np.stack([s.load() for s in select(digits, range(60, 90))])).permute(0, 3, 1, 2).float()
    fake = torch.from_numpy(noise[:30]).permute(0, 3, 1, 2).float().requires_grad_()
    log_odds = critic(fake)
    assert log_odds.mean() > critic(real).mean() + 1
    log_odds.sum().backward()
    assert fake.grad is not None and bool((fake.grad != 0).any())
    with pytest.raises(UsageError, match="no gradients"):
        DetectorCritic("spectrum", digits, seed=0, device="cpu")


def test_costs_that_are_not_known_are_absent_and_those_that_are_are_counted() -> None:
    drawn = generate(fitted("vae"), 70, 0, Bench(), model="0")
    width, latent, classes, pixels = 256, 12, 10, 64
    macs = (latent + classes) * width + width * width + width * pixels
    assert drawn.timing.flops == 2 * macs
    assert {1, 4, 16, 64} <= set(drawn.timing.sizes)
    bare = Timing((1.0, 0.5), (1, 4), "cpu", 0)
    block = summary(bare)
    assert block["best_batch"] == {"batch_size": 4, "samples_per_second": 8.0}
    assert not {"flops_per_sample", "joules_per_sample", "parameters", "training_seconds"} & set(block)
    for number in (energy, flops):
        with pytest.raises(DoesNotApply):
            number.fn(bare)
    known = Timing((1.0,), (4,), "cpu", 0, flops=10.0, joules=8.0, joules_for=4)
    assert energy.fn(known).value == 2.0 == summary(known)["joules_per_sample"]
    assert flops.fn(known).value == 10.0


def test_energy_meters_are_summed_over_packages_only(tmp_path: Path) -> None:
    for name, value in (("intel-rapl:0", 1_500_000), ("intel-rapl:1", 500_000), ("intel-rapl:0:0", 9_000_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{value}\n")
    assert hardware._package_joules(tmp_path) == 2.0
    assert hardware._package_joules(tmp_path / "none") is None


def test_a_label_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    images = from_images(np.zeros((3, 4, 4, 3), np.uint8), "x", ["../../out", "..", "a cat"])
    drawn = Generated(images, Timing((1.0,), (3,), "cpu", 0))
    write_samples(drawn, fitted("noise"), tmp_path / "made", {})
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    assert files == ["made/.._.._out/000000.png", "made/_/000001.png", "made/a cat/000002.png"]


def test_a_generator_that_gives_another_count_than_inputs_is_refused() -> None:
    class Short:
        name, modality, role, recipe, trained_on, takes = "short", "text", "candidate", "r", "t", "text"

        def sample_given(self, inputs, seed):
            yield Batch(["one"])

        def sample(self, n, seed):
            yield Batch(["x"] * n)

    with pytest.raises(RunFailed, match="gave 1 samples for 2 inputs"):
        generate_given(Short(), from_texts(["a", "b"]), 0, Bench())
