"""The dossier in a real browser: filters, sorting, keyboard, phone, print, without JavaScript, axe, hostile texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from evalkit.auditing.dossier import build
from evalkit.types import DossierLimits
from reports import dossier as report

from .browsers import axe, launched, visit
from .dossiers import decisions, hostile, pictures, records, seal
from .payloads import FAR, HOSTILE, RUN

SHOWN = "() => [...document.querySelectorAll('#work tbody tr')].filter(r => !r.hidden).map(r => Number(r.id.slice(1)))"
FOCUS = "() => document.activeElement.closest('tr')?.id ?? document.activeElement.dataset.sieve ?? ''"
WIDE = "() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
ORDER = [0, 1, 3, 6, 7, 2, 5, 4, 8, 9, 10, 11]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


def written(folder: Path, made: Mapping[str, bytes]) -> Path:
    for name, content in made.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / "index.html"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = build(records(), seal(), decisions(), pictures(), DossierLimits(pages=10))
    return written(tmp_path_factory.mktemp("audit"), report.render(made))


def test_it_asks_for_its_own_thumbnails_only_and_complains_of_nothing(browser: Any, index: Path) -> None:
    with visit(browser, index) as seen:
        seen.page.wait_for_load_state("networkidle")
        assert all(url.startswith(index.parent.as_uri()) for url in seen.asked) and seen.said == []
        assert seen.page.locator("#work img").first.evaluate("i => i.complete && i.naturalWidth") == 8
        assert seen.page.locator("#work img").last.get_attribute("loading") == "lazy"


def test_rows_are_filtered_by_verdict_evidence_state_and_words(browser: Any, index: Path) -> None:
    with visit(browser, index) as seen:
        page, told = seen.page, seen.page.locator("#sieve output")
        assert page.evaluate(SHOWN) == ORDER and told.text_content() == "12 rows"
        page.locator("[data-sieve=verdict]").select_option("synthetic")
        assert page.evaluate(SHOWN) == [0, 1, 2, 5, 4]
        page.locator("[data-sieve=evidence]").select_option("claim")
        assert page.evaluate(SHOWN) == [1] and told.text_content() == "1 of 12 rows"
        page.locator("[data-sieve=state]").select_option("crash")
        assert page.evaluate(SHOWN) == [] and page.locator(".empty").is_visible()
        page.get_by_role("button", name="Clear").click()
        assert page.evaluate(SHOWN) == ORDER
        page.locator("[data-sieve=evidence]").select_option("none")
        assert page.evaluate(SHOWN) == [8, 9, 10, 11]
        page.locator("[data-sieve=evidence]").select_option("")
        page.locator("[data-sieve=words]").fill("PORTRAIT disc")
        assert page.evaluate(SHOWN) == [0, 1]
        assert told.get_attribute("aria-live") == "polite"


def test_a_column_sorts_and_says_so_and_empty_cells_stay_last(browser: Any, index: Path) -> None:
    with visit(browser, index) as seen:
        heads = seen.page.locator("#work thead th")
        assert seen.page.locator("#work th[aria-sort=ascending]").text_content() == "p"
        score = heads.filter(has_text="P(fake)")
        score.locator("button").click()
        assert score.get_attribute("aria-sort") == "descending"
        assert seen.page.evaluate(SHOWN)[:5] == [0, 1, 3, 6, 7]
        score.locator("button").click()
        assert score.get_attribute("aria-sort") == "ascending" and seen.page.evaluate(SHOWN)[:5] == [7, 6, 1, 3, 0]
        names = heads.filter(has_text="file").first
        names.locator("button").focus()
        seen.page.keyboard.press("Enter")
        assert seen.page.evaluate(SHOWN)[:3] == [10, 9, 11] and names.get_attribute("aria-sort") == "ascending"


def test_the_keyboard_reaches_everything(browser: Any, index: Path) -> None:
    with visit(browser, index) as seen:
        page, press = seen.page, seen.page.keyboard.press
        press("/")
        assert page.evaluate(FOCUS) == "words"
        page.keyboard.type("upload/")
        assert page.evaluate(SHOWN) == [0, 1, 6, 7]
        press("ArrowDown")
        press("ArrowDown")
        assert page.evaluate(FOCUS) == "f1"
        assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") != "none"
        press("End")
        assert page.evaluate(FOCUS) == "f7"
        press("Home")
        press("ArrowUp")
        assert page.evaluate(FOCUS) == "words"
        press("Escape")
        assert page.evaluate(SHOWN) == ORDER
        # One stop by Tab for the whole list; the next one is behind it.
        assert page.locator("#work .who[tabindex='0']").count() == 1
        press("ArrowDown")
        press("ArrowDown")
        press("Enter")
        page.wait_for_url("**/files/000001.html")


def test_pages_turn_by_keys_and_lead_back_to_their_row(browser: Any, index: Path) -> None:
    with visit(browser, index.parent / "files" / "000001.html") as seen:
        seen.page.keyboard.press("n")
        seen.page.wait_for_url("**/files/000003.html")
        seen.page.keyboard.press("p")
        seen.page.wait_for_url("**/files/000001.html")
        seen.page.keyboard.press("u")
        seen.page.wait_for_url("**/index.html#f1")
        seen.page.wait_for_function("() => document.activeElement.closest('#f1')")
        assert seen.said == []


def test_without_javascript_every_row_and_page_is_there(browser: Any, index: Path) -> None:
    with visit(browser, index, java_script_enabled=False) as seen:
        assert not seen.page.locator("#sieve").is_visible() and not seen.page.locator(".keys").is_visible()
        assert seen.page.locator("#work tbody tr:visible").count() == 12
        seen.page.get_by_role("link", name="upload/portrait-01.png").first.click()
        assert "discovery" in (seen.page.locator(".statement").text_content() or "")
        seen.page.locator("summary", has_text="The record as JSON").click()
        assert seen.page.locator("pre", has_text="evalkit.audit/1").is_visible()
        seen.page.get_by_role("link", name="Next").click()
        assert seen.page.url.endswith("000001.html")


@pytest.mark.parametrize("width", [360, 390, 768, 1400])
def test_no_width_scrolls_the_page_sideways(browser: Any, index: Path, width: int) -> None:
    for file in (index, index.parent / "files" / "000003.html"):
        with visit(browser, file, viewport={"width": width, "height": 844}) as seen:
            assert seen.page.evaluate(WIDE) == 0


def test_on_paper_the_tools_are_gone_and_folded_blocks_are_open(browser: Any, index: Path) -> None:
    with visit(browser, index, java_script_enabled=False) as seen:
        seen.page.emulate_media(media="print", color_scheme="dark")
        assert seen.page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        folded = seen.page.locator("details:not([open]) table").first
        assert folded.evaluate("t => t.checkVisibility({contentVisibilityAuto: true}) && t.offsetHeight > 20")


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("index.html", "dark"),
        ("files/000003.html", "light"),
        pytest.param("index.html", "light", marks=pytest.mark.slow),
        pytest.param("files/000003.html", "dark", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_nothing_serious(browser: Any, index: Path, name: str, scheme: str) -> None:
    source = axe()
    with visit(browser, index.parent / name, color_scheme=scheme, bypass_csp=True) as seen:
        seen.page.evaluate("() => document.querySelectorAll('details').forEach(d => { d.open = true; })")
        seen.page.evaluate(source)
        found = seen.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        bad = {
            v["id"]: [n["html"][:160] for n in v["nodes"]][:3]
            for v in found["violations"]
            if v["impact"] in ("serious", "critical")
        }
        assert bad == {}


# ---------------------------------------------------------------------------------------------- hostile texts

# What a reader may do to a page: point at everything, focus it, open what is folded, sort.
TOUCH = """() => {
  for (const e of document.querySelectorAll('details')) e.open = true;
  for (const e of document.querySelectorAll('body *')) {
    e.dispatchEvent(new MouseEvent('mouseover', {bubbles: false}));
    e.dispatchEvent(new MouseEvent('pointerenter', {bubbles: false}));
  }
  for (const e of document.querySelectorAll('[tabindex], input, summary')) e.focus({preventScroll: true});
  for (const e of document.querySelectorAll('button.sort')) e.click();
  const count = (where, what) => where.querySelectorAll(what).length;
  return [typeof window.hacked, count(document, 'script'), count(document.body, 'style')];
}"""


@pytest.fixture(scope="module")
def spiked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dossier in which every text of every record, decision and list is one of the payloads."""
    return written(tmp_path_factory.mktemp("hostile"), report.render(build(*hostile(HOSTILE))))


def test_no_payload_runs_or_asks_for_anything_on_the_index(browser: Any, spiked: Path) -> None:
    with visit(browser, spiked, bypass_csp=True) as seen:
        assert seen.page.evaluate("() => document.querySelectorAll('#work tbody tr').length") > len(HOSTILE)
        assert seen.page.evaluate(TOUCH) == ["undefined", 1, 0]
        seen.page.locator("[data-sieve=words]").fill("<script>")
        assert seen.said == [] and set(seen.asked) == {spiked.as_uri()}


@pytest.mark.parametrize("every", [24, pytest.param(1, marks=pytest.mark.slow)])
def test_no_payload_runs_or_asks_for_anything_on_a_page(browser: Any, spiked: Path, every: int) -> None:
    with visit(browser, None, bypass_csp=True) as seen:
        for file in sorted((spiked.parent / "files").glob("*.html"))[::every]:
            seen.page.goto(file.as_uri(), wait_until="domcontentloaded")
            assert seen.page.evaluate(TOUCH) == ["undefined", 1, 0], file.name
        assert seen.said == []
        assert all(url.startswith(spiked.parent.as_uri()) for url in seen.asked)


def test_the_policy_stops_what_got_through(browser: Any, index: Path, tmp_path: Path) -> None:
    hole = f"<script>{RUN}</script><img src={FAR}.png><img src=x onerror={RUN}><style>body{{color:red}}</style>"
    for name in ("index.html", "files/000001.html"):
        text = (index.parent / name).read_text("utf-8")
        assert "<h1" in text
        file = tmp_path / Path(name).name
        file.write_text(text.replace("<h1", f"{hole}<h1", 1), "utf-8")
        with visit(browser, file) as seen:
            asked: list[str] = []
            seen.page.on("requestfinished", lambda request, asked=asked: asked.append(request.url))
            assert seen.page.evaluate("() => typeof window.hacked") == "undefined"
            assert seen.page.evaluate("() => getComputedStyle(document.body).color") != "rgb(255, 0, 0)"
            assert seen.page.get_by_role("button", name="Dark theme").is_visible()  # its own script still works
            assert not any("evil" in url for url in asked)
            assert any("Content Security Policy" in words for words in seen.said)
