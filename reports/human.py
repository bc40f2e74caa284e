"""The page on which people judge samples: instructions, one trial at a time, the keyboard; no word about the sets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from .html import environment, policy

# Images of a few pixels are drawn with hard edges; interpolation would blur what there is to see.
PIXEL_ART = 64


def as_html(facts: Mapping[str, Any]) -> str:
    """The judging page as one HTML document; same facts, same bytes.

    facts: mode ("real-or-fake" or "2afc"), modality, total, catches and repeats (counts of trials), side (pixels of an
    image), static (whether it has no server), rater (a name, or "" to ask); where static also study, sheets and texts.
    """
    style, script = _asset("judge.css"), _asset("judge.js")
    return (
        environment()
        .get_template("judge.html.j2")
        .render(
            facts=facts,
            thing="text" if facts["modality"] == "text" else "picture",
            pixelated=0 < int(facts["side"]) <= PIXEL_ART,
            style=Markup(style),
            script=Markup(script),
            data=Markup(_in_script(facts)),
            policy=_policy(style, script),
        )
    )


def _policy(style: str, script: str) -> str:
    """The reports' policy, which lets pictures and answers go to the page's own server and nowhere else."""
    return policy(style, script, "'self'") + "; connect-src 'self'"


def _in_script(facts: Mapping[str, Any]) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(dict(facts), ensure_ascii=True, sort_keys=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _asset(name: str) -> str:
    return files("reports").joinpath("templates", name).read_text(encoding="utf-8")
