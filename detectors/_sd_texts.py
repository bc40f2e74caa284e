"""The texts that generators of images leave in a file: whose they are, and the model, sampler and seed they name.

One reader a tool, from what its files hold: keyword -> text of PNG texts, of a hidden text, or of EXIF fields brought
into the same form. All are claims: a text can be copied into any file.

    AUTOMATIC1111 and its kin  parameters: prompt, "Negative prompt: ...", one line "Steps: 20, Sampler: ..., Seed: ..."
    Fooocus       parameters: JSON with metadata_scheme or a version "Fooocus ..."; or A1111's form with that version
    SwarmUI       parameters: JSON {"sui_image_params": {...}}
    ComfyUI       prompt and workflow: JSON graphs (_comfy)
    InvokeAI      invokeai_metadata (JSON), sd-metadata (JSON), Dream ('"prompt" -s 50 -S 1 -A k_lms'), newest first
    NovelAI       Software: NovelAI, Comment: JSON, Source: the model
    Midjourney    Description ending in "Job ID: UUID"
    Draw Things   XMP: CreatorTool "Draw Things", exif:UserComment JSON with c (prompt), model, sampler, seed
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.types import Evidence

from ._comfy import graph_of
from ._objects import listed, mapping, object_of, word
from ._wording import LONGEST_PROMPT, evidence, visible
from ._xmp import EXIF, Properties, creator_tools

LONGEST_LINE = 20_000
JOB = re.compile(r"Job ID: ([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\s*\Z")
VERSION = re.compile(r" --(v|version|niji) ([0-9.]{1,5})\b")
DREAM = re.compile(r'\A"(.*)"((?: -[A-Za-z]+ \S+)*)', re.DOTALL)

Texts = Mapping[str, str]


@dataclass(frozen=True)
class Told:
    """What one tool's text says; words as the text has them, "" where it has none."""

    tool: str
    model: str = ""
    sampler: str = ""
    seed: str = ""
    prompt: str = ""
    more: tuple[tuple[str, Any], ...] = ()
    edited: bool = False


def tool_evidence(texts: Texts, source: str) -> list[Evidence]:
    """One piece of evidence for each tool whose form the texts have."""
    return [said(told, source) for read in READERS if (told := read(texts)) is not None]


def said(told: Told, source: str) -> Evidence:
    facts: dict[str, Any] = {"tool": told.tool, "prompt_length": len(told.prompt)}
    named = {"model": told.model, "sampler": told.sampler, "seed": told.seed, **dict(told.more)}
    facts |= {name: value for name, value in named.items() if value}
    if told.prompt:
        facts["prompt"] = visible(told.prompt, LONGEST_PROMPT)
    shown = "".join(f", {name} {named[name]}" for name in ("model", "sampler", "seed") if named[name])
    if told.edited:
        return evidence("edited", source, f"{told.tool}: parameters of an enlargement", facts=facts)
    return evidence("synthetic", source, f"generation parameters of {told.tool}{shown}", facts=facts)


def _a1111(texts: Texts) -> Told | None:
    text = texts.get("parameters", "")
    if text.startswith("Postprocess upscale"):
        return Told("AUTOMATIC1111", edited=True)
    cut = text.rfind("\nSteps: ") + 1
    last = text[cut : cut + LONGEST_LINE]
    if not last.startswith("Steps: ") or "Sampler: " not in last:
        return None
    settings = dict(_pairs(last.partition("\n")[0]))
    version = settings.get("Version", "")
    tool = "Fooocus" if version.startswith("Fooocus") or "fooocus_scheme" in texts else "AUTOMATIC1111"
    prompt = text[:cut].split("\nNegative prompt: ")[0].removesuffix("\n")
    more = (("steps", settings.get("Steps", "")), ("version", version))
    return Told(tool, settings.get("Model", ""), settings.get("Sampler", ""), settings.get("Seed", ""), prompt, more)


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """The "name: value" pairs of a line, parted by commas outside of quotes."""
    part: list[str] = []
    quoted = False
    for character in f"{line},":
        quoted ^= character == '"'
        if character == "," and not quoted:
            name, colon, value = "".join(part).partition(":")
            if colon:
                yield word(name), word(value)
            part = []
        else:
            part.append(character)


def _fooocus(texts: Texts) -> Told | None:
    found = object_of(texts.get("parameters"))
    if found is None:
        return None
    version = word(found.get("version"))
    if "metadata_scheme" not in found and "fooocus_scheme" not in texts and not version.startswith("Fooocus"):
        return None
    prompt = found.get("prompt")
    more = (("steps", word(found.get("steps"))), ("version", version))
    model, sampler, seed = (word(found.get(name)) for name in ("base_model", "sampler", "seed"))
    return Told("Fooocus", model, sampler, seed, prompt if isinstance(prompt, str) else "", more)


def _swarm(texts: Texts) -> Told | None:
    found = object_of(texts.get("parameters")) or {}
    settings = mapping(found.get("sui_image_params"))
    if not settings:
        return None
    prompt = settings.get("prompt")
    more = (("steps", word(settings.get("steps"))), ("version", word(settings.get("swarm_version"))))
    model, sampler, seed = (word(settings.get(name)) for name in ("model", "sampler", "seed"))
    return Told("SwarmUI", model, sampler, seed, prompt if isinstance(prompt, str) else "", more)


def _comfyui(texts: Texts) -> Told | None:
    graph = graph_of(object_of(texts.get("prompt"))) or graph_of(object_of(texts.get("workflow")))
    if graph is None:
        return None
    samplers, seeds, models = graph["samplers"], graph["seeds"], graph["models"]
    model, sampler, seed = ("".join(names[:1]) for names in (models, samplers, seeds))
    more = tuple((name, graph[name]) for name in ("models", "samplers", "seeds") if len(graph[name]) > 1)
    return Told("ComfyUI", model, sampler, seed, graph["prompt"], more)


def _invokeai(texts: Texts) -> Told | None:
    newest = object_of(texts.get("invokeai_metadata"))
    if newest is not None:
        model = newest.get("model")
        name = word(mapping(model).get("model_name") or mapping(model).get("name") or model)
        prompt = newest.get("positive_prompt")
        sampler, seed, steps = (word(newest.get(key)) for key in ("scheduler", "seed", "steps"))
        more = (("steps", steps), ("version", word(newest.get("app_version"))))
        return Told("InvokeAI", name, sampler, seed, prompt if isinstance(prompt, str) else "", more)
    older = object_of(texts.get("sd-metadata"))
    if older is not None and isinstance(older.get("image"), dict):
        image = older["image"]
        prompts = [mapping(part).get("prompt") for part in listed(image.get("prompt"))]
        prompt = ", ".join(part for part in prompts if isinstance(part, str))
        more = (("steps", word(image.get("steps"))), ("version", word(older.get("app_version"))))
        sampler, seed = word(image.get("sampler")), word(image.get("seed"))
        return Told("InvokeAI", word(older.get("model_weights")), sampler, seed, prompt, more)
    return _dream(texts.get("Dream", ""))


def _dream(text: str) -> Told | None:
    found = DREAM.match(text[:LONGEST_LINE])
    if found is None:
        return None
    switches = found[2].split()
    given = dict(zip(switches[::2], switches[1::2], strict=False))
    if "-S" not in given and "-A" not in given:
        return None
    more = (("steps", word(given.get("-s"))),)
    return Told("InvokeAI", "", word(given.get("-A")), word(given.get("-S")), found[1], more)


def _novelai(texts: Texts) -> Told | None:
    if texts.get("Software") != "NovelAI" and not texts.get("Source", "").startswith("NovelAI"):
        return None
    comment = object_of(texts.get("Comment")) or {}
    more = (("steps", word(comment.get("steps"))),)
    prompt = texts.get("Description") or (comment["prompt"] if isinstance(comment.get("prompt"), str) else "")
    sampler, seed = word(comment.get("sampler")), word(comment.get("seed"))
    return Told("NovelAI", word(texts.get("Source")), sampler, seed, prompt, more)


def _midjourney(texts: Texts) -> Told | None:
    text = texts.get("Description", "")
    job = JOB.search(text[-LONGEST_LINE:])
    if job is None:
        return None
    prompt = text[: len(text) - len(job[0])].strip()
    version = VERSION.search(prompt[-LONGEST_LINE:])
    model = "" if version is None else f"{'niji' if version[1] == 'niji' else 'v'} {version[2]}"
    return Told("Midjourney", model, prompt=prompt, more=(("job", job[1]),))


READERS: tuple[Callable[[Texts], Told | None], ...] = (
    _a1111,
    _fooocus,
    _swarm,
    _comfyui,
    _invokeai,
    _novelai,
    _midjourney,
)


def draw_things_evidence(found: Properties) -> list[Evidence]:
    if "Draw Things" not in creator_tools(found):
        return []
    settings = object_of(next(iter(found.get((EXIF, "UserComment"), ())), "")) or {}
    prompt = settings.get("c")
    model, sampler, seed = (word(settings.get(name)) for name in ("model", "sampler", "seed"))
    told = Told("Draw Things", model, sampler, seed, prompt if isinstance(prompt, str) else "")
    return [said(told, "XMP")]


def texts_of_exif(fields: Mapping[str, Any]) -> dict[str, str]:
    """EXIF fields in the form of PNG texts: where tools put their text into a JPEG or a WebP.

    The comment is A1111's parameters or Fooocus' and SwarmUI's JSON; ComfyUI's WebP has "prompt:..." and
    "workflow:..." in the fields for model and make; Midjourney's JPEG has its description in that field.
    """
    texts = {"parameters": str(fields.get("comment", "")), "Description": str(fields.get("description", ""))}
    for name in ("make", "model", "description", "software"):
        keyword, colon, rest = str(fields.get(name, "")).partition(":")
        if colon and keyword.lower() in ("prompt", "workflow") and rest.lstrip().startswith("{"):
            texts[keyword.lower()] = rest
    return {keyword: text for keyword, text in texts.items() if text}
