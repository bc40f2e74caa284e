"""A page as a tree, texts that try to break out of it, and boards that carry them: for the tests of the reports."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from typing import Any

from evalkit.types import Cell, Column, Comparison, Difference, Leaderboard, Row

VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    "<img src=https://evil.example/x.png onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'><svg/onload=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "--><script>alert(1)</script><!--",
    "]]><script>alert(1)</script>",
    "<a href=javascript:alert(1)>x</a>",
    "javascript:alert(1)",
    "<iframe src=//evil.example></iframe>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "<form action=//evil.example><input></form>",
    "<style>@import url(//evil.example/x.css)</style>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<math><mi xlink:href=data:x,<script>alert(1)</script>>",
    "\x00<\x1b[31mred\x1b[0m",
    "\u202egnp.exe\u2066",
    "\ud800lone\udfff",
    "line\u2028one\u2029two\nthree\r\tfour",
    "=HYPERLINK(\"http://evil.example\",\"x\")",
    "| a | b |\n|---|---|\n`code` **bold** [x](http://evil.example) <!-- x -->",
    "",
    "long " * 2000,
)  # fmt: skip


class Node:
    """One element of a parsed page."""

    def __init__(self, tag: str, attrs: Mapping[str, str | None]) -> None:
        self.tag, self.attrs, self.children, self.texts = tag, attrs, list[Node](), list[str]()

    def all(self, tag: str, **attrs: str) -> list[Node]:
        """Descendants of that tag whose attributes hold those words (`class_` for class)."""
        wanted = {key.rstrip("_").replace("_", "-"): word for key, word in attrs.items()}
        return [
            node
            for node in self.walk()
            if node.tag == tag and all(word in (node.attrs.get(key) or "").split() for key, word in wanted.items())
        ]

    def walk(self) -> Iterator[Node]:
        for child in self.children:
            yield child
            yield from child.walk()

    @property
    def text(self) -> str:
        return "".join(self.texts)


class Page(HTMLParser):
    """A page as a tree; refuses tags that close in the wrong order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.root = Node("", {})
        self.open = [self.root]
        self.feed(source)
        self.close()
        assert len(self.open) == 1, f"never closed: {[node.tag for node in self.open[1:]]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs))
        assert len(node.attrs) == len(attrs), f"an attribute of <{tag}> is given twice"
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for node in self.open:
            node.texts.append(data)


def everywhere(thing: Any, change: Callable[[str], str]) -> Any:
    """The same nouns with every free text changed; what is a choice of a few words, and pictures, stay."""
    fixed = {"modality", "role", "better", "schema", "uri", "x_scale", "y_scale"}
    if isinstance(thing, str):
        return change(thing)
    if isinstance(thing, tuple):
        return tuple(everywhere(item, change) for item in thing)
    if isinstance(thing, Mapping):
        return {change(key): everywhere(value, change) for key, value in thing.items()}
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        # The verdict of a comparison is sentences, that of a difference one of three words.
        fixed |= {"verdict"} if isinstance(thing, Difference) else set()
        names = [f.name for f in dataclasses.fields(thing) if f.name not in fixed]
        return dataclasses.replace(thing, **{name: everywhere(getattr(thing, name), change) for name in names})
    return thing


def small(cell: Cell, *, name: str = "gan", metric: str = "fid@pixels") -> Leaderboard:
    column = Column(metric, "lower", "u", "sha256:ab", {"real": 9, "fake": 8}, "jackknife")
    comparison = Comparison("image", "t", None, (column,), (Row(name, "candidate", (cell,), 8),), {}, {}, {}, ())
    return Leaderboard("t", (comparison,), (), {})


def numbers_in(text: str) -> list[tuple[float, float]]:
    """Each number with half a unit of its last digit."""
    found = []
    for word in re.findall(r"−?\d[\d\u202f]*(?:\.\d+)?(?:e−?\d+)?", text):
        plain = word.replace("\u202f", "").replace("−", "-")
        mantissa, _, power = plain.partition("e")
        unit = 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
        found.append((float(plain), 0.5000001 * unit))
    return found
