"""The style sheet cut down to what one kind of page uses: a folder may hold two thousand pages with a copy each."""

from __future__ import annotations

import re
from collections.abc import Iterator

_CLASS = re.compile(r"\.(-?[A-Za-z_][\w-]*)")


def pruned(sheet: str, used: frozenset[str]) -> str:
    """The rules of a sheet without those whose every selector asks for a class that is not among `used`."""
    kept = []
    for head, body in _rules(re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL)):
        if head.startswith("@") and not head.startswith("@page"):
            inner = pruned(body, used)
            kept += [f"{head}{{{inner}}}"] if inner else []
        else:
            wanted = [one for one in _selectors(head) if set(_CLASS.findall(one)) <= used]
            kept += [f"{','.join(wanted)}{{{' '.join(body.split())}}}"] if wanted else []
    return "\n".join(kept)


def _rules(sheet: str) -> Iterator[tuple[str, str]]:
    """(head, body) of each rule of one level; braces of rules inside a body stay in it."""
    start, depth, opened = 0, 0, 0
    for place, sign in enumerate(sheet):
        if sign == "{":
            depth += 1
            opened = place if depth == 1 else opened
        elif sign == "}":
            depth -= 1
            if depth == 0:
                yield " ".join(sheet[start:opened].split()), sheet[opened + 1 : place]
                start = place + 1


def _selectors(head: str) -> list[str]:
    """The selectors of a list; commas inside brackets, as of :is(a, b), part none."""
    return [one.strip() for one in re.split(r",(?![^(\[]*[)\]])", head)]
