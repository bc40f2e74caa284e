"""`evalkit train` and `evalkit detect`: detectors from samples, and verdicts from detectors."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..options import Run, common, controls_of
from .replay import raid, replay

LISTED = 10
Command = Callable[..., Any]


def _protocols(command: Command) -> Command:
    """RAID's table instead of verdicts, from texts or from recorded scores."""
    options = [
        click.option("--raid", "as_raid", is_flag=True, help="RAID's table of the texts of SOURCE: as evalkit raid."),
        click.option("--scores", "recorded", is_flag=True, help="SOURCE holds recorded scores: as evalkit replay."),
        click.option("--attacks", metavar="A,B|all", help="With --raid: every text again behind each of these."),
        click.option("--higher", type=click.Choice(["fake", "real", "auto"]), help="With --scores: whose are higher."),
        click.option("--nan", type=click.Choice(["refuse", "exclude"]), help="With --scores: what missing ones do."),
        click.option("--column", "columns", metavar="ROLE=NAME", multiple=True, help="With both: a column's own name."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _instead(target: click.Command, flag: str) -> None:
    """Run another command on what this one was given; BadSetting for an option that the other does not have."""
    from ..errors import BadSetting, UsageError

    context = click.get_current_context()
    theirs = {p.name for p in target.params}
    line = click.core.ParameterSource.COMMANDLINE
    given = {p.name: p for p in context.command.params if p.name and context.get_parameter_source(p.name) is line}
    foreign = [p.opts[0] for name, p in given.items() if name not in theirs | {"source", "as_raid", "recorded"}]
    if foreign:
        raise BadSetting(f"{foreign[0]} does not go with {flag}; evalkit {target.name} --help says what does")
    if "detectors" in theirs and "detectors" not in given:
        raise UsageError(f"{flag} needs a detector: give --with DETECTOR")
    passed = {name: context.params[name] for name in given if name in theirs}
    context.invoke(target, **passed, **({"sources": (context.params["source"],)} if "sources" in theirs else {}))


@click.command()
@click.argument("kind", type=click.Choice(["generator", "detector"]))
@click.argument("name")
@click.option("--data", metavar="SOURCE", help="What a generator learns from.")
@click.option("--real", metavar="SOURCE", help="Real samples a detector learns from.")
@click.option("--fake", metavar="SOURCE", multiple=True, help="Generated samples a detector learns from; repeatable.")
@click.option("--set", "controls", metavar="KEY=VALUE", multiple=True, help="A control of the generator.")
@click.option("--from", "start", metavar="DIR", help="Go on from this trained generator (fine-tuning).")
@click.option("--with-detector", "critic", metavar="NAME", help="Train the generator against this detector too.")
@click.option("--clean", is_flag=True, help="Let a detector learn from cleaned texts (see audit-data).")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Model folder.")
@common
def train(
    kind: str,
    name: str,
    data: str | None,
    real: str | None,
    fake: tuple[str, ...],
    controls: tuple[str, ...],
    start: str | None,
    critic: str | None,
    clean: bool,
    out: Path,
    **options: Any,
) -> None:
    """Train a generator on data, or a detector on real and generated samples; write a model folder."""
    from .. import verbs

    with Run(options) as run:
        settings = {**controls_of(controls), **({"critic": critic} if critic else {})}
        given: dict[str, Any] = {"real": real, "fake": fake, "data": data, "start": start, "controls": settings}
        given["clean"] = clean
        done = verbs.trained(kind, name, out=out, seed=run.settings.seed, bench=run.bench, **given)
    for words in done.warnings:
        click.echo(f"warning: {words}", err=True)
    click.echo(str(out / "card.json"))
    done.conclude()


@click.command()
@click.argument("source")
@click.option(
    "--with",
    "detectors",
    metavar="DETECTOR",
    multiple=True,
    help="Detector folder, or the name of a published one; repeatable.",
)
@click.option("--truth", metavar="real|fake|FILE", help="What the samples are: a word, or a .csv of id,label.")
@click.option("--calibrate", metavar="SOURCE", help="Real samples of yours that set the threshold.")
@click.option("--fake", metavar="SOURCE", multiple=True, help="Fakes that P(fake) is calibrated on; repeatable.")
@click.option("--fpr", type=float, help="Share of fresh reals that may be flagged (default 0.01).")
@click.option("--confidence", type=float, help="How sure to be of that FPR (default 0.95; 0: on average).")
@click.option("--fpr-in-expectation", is_flag=True, help="The FPR holds on average: the same as --confidence 0.")
@click.option(
    "--method",
    type=click.Choice(["temperature", "isotonic", "venn_abers"]),
    help="Map from score to P(fake) (default: venn_abers).",
)
@click.option("--prevalence", type=float, help="Share of fakes you expect, for P(fake) and PPV.")
@click.option("--flips", is_flag=True, help="Judge four mild re-encodings too: uncertain where the verdict changes.")
@click.option(
    "--explain",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Maps of the six most fake images of each detector, with a test of their faithfulness.",
)
@click.option(
    "--least-characters", type=int, metavar="N", help="Texts with fewer are uncertain (default: each detector's own)."
)
@click.option("--clean", is_flag=True, help="Judge cleaned texts (see audit-data); needs --truth FILE.")
@click.option(
    "--keep-calibration", "kept", type=click.Path(path_type=Path), metavar="FILE", help="Keep the calibration here."
)
@click.option(
    "--calibration", type=click.Path(path_type=Path), metavar="FILE", help="A kept calibration, for --calibrate."
)
@_protocols
@click.option("-o", "outputs", type=click.Path(path_type=Path), multiple=True, help="File: .json .csv .md .html")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else.")
@common
def detect(
    source: str,
    detectors: tuple[str, ...],
    fpr_in_expectation: bool,
    confidence: float | None,
    kept: Path | None,
    as_json: bool,
    truth: str | None,
    calibrate: str | None,
    fake: tuple[str, ...],
    fpr: float | None,
    method: str | None,
    prevalence: float | None,
    flips: bool,
    explain: Path | None,
    least_characters: int | None,
    clean: bool,
    calibration: Path | None,
    outputs: tuple[Path, ...],
    as_raid: bool,
    recorded: bool,
    attacks: str | None,
    higher: str | None,
    nan: str | None,
    columns: tuple[str, ...],
    **options: Any,
) -> None:
    """Let fitted detectors judge the samples of SOURCE: synthetic, authentic or uncertain, and why.

    With --calibrate the threshold is set on your own reals for a false positive rate, and every sample gets a p-value
    against them; with --fake as well, P(fake) is calibrated. With --truth: how well the detectors do.
    --raid and --scores make RAID's table, one threshold a domain, in place of verdicts.
    """
    from ..errors import BadSetting, Inconclusive, UsageError
    from ..judging.detecting import detect as judged
    from ..judging.study import sample_rows
    from ..records import dumps
    from ..shortcuts.beside import shortcut_lines
    from ..tables import detection_table

    if as_raid and recorded:
        raise BadSetting("--raid and --scores were given; the table is of texts or of recorded scores, not of both")
    if as_raid or recorded:
        _instead(*((raid, "--raid") if as_raid else (replay, "--scores")))
        return
    if not detectors:
        raise UsageError("which detector? give --with DETECTOR, or --scores where SOURCE holds recorded scores")
    idle = {"--attacks": attacks, "--higher": higher, "--nan": nan, "--column": columns}
    if unused := [option for option, value in idle.items() if value]:
        raise BadSetting(f"{unused[0]} needs --raid or --scores")
    if fpr_in_expectation and confidence:
        raise BadSetting(f"--fpr-in-expectation and --confidence {confidence}; give one of them")
    with Run(options) as run:
        found = judged(
            source,
            detectors,
            truth=truth,
            calibrate=calibrate,
            fake=fake,
            calibration=calibration,
            keep_calibration=kept,
            fpr=fpr,
            confidence=0.0 if fpr_in_expectation else confidence,
            method=method,
            prevalence=prevalence,
            flips=flips,
            explain=explain,
            least_characters=least_characters,
            clean=clean,
            outputs=outputs,
            bench=run.bench,
            command=shlex.join(["evalkit", *sys.argv[1:]]),
        )
    listed = {judge["name"]: sample_rows(judge, LISTED) for judge in found["detectors"]}
    for line in () if as_json else shortcut_lines(found.get("shortcut")):
        click.echo(line)
    click.echo(dumps(found) if as_json else detection_table(found, listed), nl=not as_json)
    if "inconclusive" in found:
        said = "; ".join(found["inconclusive"])
        raise Inconclusive(f"{said}; what was judged is written, but do not act on it")
