"""What the README promises: its Python runs, its commands exist, its links lead somewhere, CI calls its test line."""

from __future__ import annotations

import re
from pathlib import Path

import click

import evalkit
from evalkit.cli import evalkit as group
from evalkit.types import Metric

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_metric_example_is_a_metric_that_works() -> None:
    [example] = [b for b in blocks("python") if "@metric" in b]
    names: dict[str, object] = {}
    # As a module of its own: annotations are read when the decorator looks at the signature.
    exec(compile(example, "README.md", "exec"), names)
    made = names["mean_gap"]
    assert isinstance(made, Metric) and made.asks == ("real", "fake")
    import torch

    from tests.toys import images

    real = evalkit.Features(torch.zeros(4, 2), "none", images(4))
    fake = evalkit.Features(torch.ones(4, 2), "none", images(4))
    assert made(real, fake) == 2.0


def test_every_command_and_option_it_shows_exists() -> None:
    shown = re.findall(
        r"evalkit ([a-z-]+)", "\n".join(blocks("bash")) + "\n" + "\n".join(re.findall(r"\| `(evalkit.*?)` \|", README))
    )
    assert len(shown) > 8
    for name in shown:
        assert name in group.commands, name
    beneath = [c for g in group.commands.values() if isinstance(g, click.Group) for c in g.commands.values()]
    known = {opt for c in (*group.commands.values(), *beneath) for p in c.params for opt in p.opts}
    assert set(re.findall(r"(?<=\s)(--[a-z-]+)", "".join(blocks("bash")))) - {"--quiet"} <= known


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_ci_runs_exactly_its_test_command() -> None:
    [command] = re.findall(r"<!-- test command -->\n```bash\n(.*?)\n```", README, re.S)
    assert "\n" not in command and "pytest" in command
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_every_dependency_has_its_reason() -> None:
    declared = re.search(r"^dependencies = \[(.*?)\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.S | re.M)
    assert declared is not None
    table = README.split("## Dependencies")[1]
    for name in re.findall(r'"([A-Za-z_-]+)', declared.group(1)):
        assert name in table, name


def test_the_face_has_every_name_it_lists() -> None:
    for name in evalkit.__all__:
        assert getattr(evalkit, name) is not None
    assert evalkit.registry.metrics.names()
