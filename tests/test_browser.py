"""The report in a real browser: sorting, filtering, themes, keyboard, print, phone, without JavaScript, axe-core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports import html

from .browsers import axe, launched, visit
from .shown import REFUSAL, full, tiny

FIRST = "#image-board tbody tr:first-child .who"
NAMES = "() => [...document.querySelectorAll('#image-board tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].querySelector('.who').textContent)"  # noqa: E501
WIDE = "() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "index.html"
    file.write_text(html.render(full()), "utf-8")
    return file


def head(page: Any, column: str) -> Any:
    return page.locator(f"#image-board th#{column}")


def test_nothing_is_fetched_and_nothing_is_complained_of(browser: Any, report: Path) -> None:
    with visit(browser, report) as seen:
        seen.page.wait_for_load_state("networkidle")
        assert [url for url in seen.asked if not url.startswith("data:")] == [report.as_uri()]
        assert seen.said == []
        assert seen.page.locator("img").first.evaluate("i => i.naturalWidth") == 8


def test_a_column_sorts_by_mouse_and_says_so(browser: Any, report: Path) -> None:
    with visit(browser, report) as seen:
        column = head(seen.page, "image-fid-random-conv")
        column.locator("button").click()
        assert column.get_attribute("aria-sort") == "ascending"
        assert seen.page.evaluate(NAMES) == ["resample", "diffusion", "gan", "vae", "noise"]
        column.locator("button").click()
        assert column.get_attribute("aria-sort") == "descending"
        assert seen.page.evaluate(NAMES)[0] == "noise"
        speed = head(seen.page, "image-throughput")
        speed.locator("button").click()
        assert speed.get_attribute("aria-sort") == "descending" and column.get_attribute("aria-sort") is None
        # Those without a number stay last in both directions.
        assert seen.page.evaluate(NAMES) == ["noise", "vae", "diffusion", "gan", "resample"]


def test_everything_is_reached_by_keyboard(browser: Any, report: Path) -> None:
    with visit(browser, report) as seen:
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("() => document.activeElement.textContent") == "Skip to the verdict"
        order = []
        for _ in range(60):
            seen.page.keyboard.press("Tab")
            order.append(seen.page.evaluate("() => document.activeElement.closest('th')?.id"))
            if order[-1] == "image-kid-random-conv":
                break
        assert order[-1] == "image-kid-random-conv"
        assert seen.page.evaluate("() => document.activeElement.matches('button.sort')")
        outline = seen.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        seen.page.keyboard.press("Enter")
        assert head(seen.page, "image-kid-random-conv").get_attribute("aria-sort") == "ascending"
        assert seen.page.evaluate(NAMES)[:2] == ["resample", "diffusion"]


def test_rows_are_filtered_by_words_and_columns_by_question(browser: Any, report: Path) -> None:
    with visit(browser, report) as seen:
        tools = seen.page.locator('.tools[data-for="image-board"]')
        field = tools.get_by_label("Filter subjects")
        field.fill("A")
        assert seen.page.evaluate(NAMES) == ["resample", "gan", "vae"]
        assert tools.locator("output").text_content() == "3 of 5 subjects"
        field.fill("")
        assert len(seen.page.evaluate(NAMES)) == 5
        box = tools.get_by_label("Diversity")
        box.focus()
        seen.page.keyboard.press("Space")
        assert not head(seen.page, "image-prdc-recall-digits-net").is_visible()
        assert head(seen.page, "image-memorization-pixels").is_visible()
        visible = seen.page.locator("#image-board tbody tr:first-child td:visible").count()
        assert visible == 10  # twelve columns, two of diversity
        box.check()
        assert seen.page.locator("#image-board tbody tr:first-child td:visible").count() == 12


def test_the_theme_follows_the_system_until_it_is_chosen(browser: Any, report: Path) -> None:
    paper = "() => getComputedStyle(document.body).backgroundColor"
    with visit(browser, report, color_scheme="dark") as seen:
        dark = seen.page.evaluate(paper)
        toggle = seen.page.get_by_role("button", name="Light theme")
        toggle.click()
        light = seen.page.evaluate(paper)
        assert dark != light
        assert seen.page.get_by_role("button", name="Dark theme").is_visible()
        seen.page.emulate_media(color_scheme="light")
        assert seen.page.evaluate(paper) == light
        seen.page.reload()
        assert seen.page.evaluate(paper) == light


@pytest.mark.parametrize("script", [True, False])
def test_on_paper_folded_blocks_are_open_and_nothing_is_cut(browser: Any, report: Path, script: bool) -> None:
    with visit(browser, report, java_script_enabled=script) as seen:
        seen.page.emulate_media(media="print", color_scheme="dark")
        folded = seen.page.locator("details:not([open]) table").last
        assert folded.evaluate("t => t.checkVisibility({contentVisibilityAuto: true}) && t.offsetHeight > 20")
        assert not seen.page.locator(".tools").first.is_visible()
        assert seen.page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        clipped = "() => [...document.querySelectorAll('.scroll')].filter(e => getComputedStyle(e).overflowX !== 'visible').length"  # noqa: E501
        assert seen.page.evaluate(clipped) == 0


def test_printing_opens_every_block_and_leaves_the_page_as_it_was(browser: Any, report: Path) -> None:
    with visit(browser, report) as seen:
        states = "() => [...document.querySelectorAll('details')].map(d => [d.open, d.getAttribute('name')])"
        before = seen.page.evaluate(states)
        seen.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
        assert all(is_open for is_open, _ in seen.page.evaluate(states))
        seen.page.evaluate("() => dispatchEvent(new Event('afterprint'))")
        assert seen.page.evaluate(states) == before


def test_without_javascript_everything_is_there(browser: Any, report: Path) -> None:
    with visit(browser, report, java_script_enabled=False) as seen:
        for hidden in (".tools", "[data-toggle-theme]", "[data-copy]"):
            assert not seen.page.locator(hidden).first.is_visible()
        assert seen.page.locator("#image-board tbody tr").count() == 5
        assert seen.page.get_by_text(REFUSAL).first.is_visible()
        tables = seen.page.locator('details[name="image-differences"]')
        assert tables.nth(0).locator("table").is_visible() and not tables.nth(1).locator("table").is_visible()
        tables.nth(1).locator("summary").click()
        assert tables.nth(1).locator("table").is_visible() and not tables.nth(0).locator("table").is_visible()


def test_a_refused_cell_says_why(browser: Any, report: Path) -> None:
    with visit(browser, report) as seen:
        why = seen.page.locator("#image-board details.why")
        assert why.count() == 1
        why.locator("summary").focus()
        seen.page.keyboard.press("Enter")
        assert REFUSAL in (why.text_content() or "")
        assert why.get_by_text("device is cuda:0").is_visible()


def test_links_lead_to_a_column_and_its_protocol(browser: Any, report: Path) -> None:
    with visit(browser, report) as seen:
        head(seen.page, "image-auroc-cnn").locator("a.badge").click()
        row = seen.page.locator("#image-auroc-cnn-protocol")
        # A browser opens the folded block that an address leads into.
        assert seen.page.url.endswith("#image-auroc-cnn-protocol")
        seen.page.locator("#image-columns summary").click() if not row.is_visible() else None
        assert row.is_visible() and "auroc@cnn" in (row.text_content() or "")
        links = seen.page.evaluate("() => [...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash.slice(1))")
        ids = seen.page.evaluate("() => [...document.querySelectorAll('[id]')].map(e => e.id)")
        assert set(links) <= set(ids)
        assert all(seen.page.locator(f"section.exhibit h3 a[href='#{i}']").count() for i in ids if "-shown-" in i)


@pytest.mark.parametrize("width", [360, 390, 768, 1400])
def test_no_width_scrolls_the_page_sideways(browser: Any, report: Path, width: int) -> None:
    with visit(browser, report, viewport={"width": width, "height": 844}) as seen:
        assert seen.page.evaluate(WIDE) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, tmp_path: Path, scheme: str) -> None:
    file = tmp_path / "index.html"
    file.write_text(html.render(tiny()), "utf-8")
    check_with_axe(browser, file, scheme)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_a_full_page(browser: Any, report: Path, scheme: str) -> None:
    check_with_axe(browser, report, scheme)


def check_with_axe(browser: Any, file: Path, scheme: str) -> None:
    source = axe()
    with visit(browser, file, color_scheme=scheme, bypass_csp=True) as seen:
        seen.page.evaluate(
            "() => document.querySelectorAll('details').forEach(d => { d.removeAttribute('name'); d.open = true; })"
        )
        seen.page.evaluate(source)
        found = seen.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        bad = {
            v["id"]: [n["html"][:160] for n in v["nodes"]][:3]
            for v in found["violations"]
            if v["impact"] in ("serious", "critical")
        }
        assert bad == {}


def test_a_page_too_large_for_one_file_shows_its_pictures_from_files(browser: Any, tmp_path: Path) -> None:
    for name, content in html.render_folder(full()).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with visit(browser, tmp_path / "index.html") as seen:
        picture = seen.page.locator("img").first
        picture.scroll_into_view_if_needed()
        seen.page.wait_for_function("() => document.querySelector('img').complete")
        assert picture.evaluate("i => i.naturalWidth") == 8
        assert all(url.startswith(tmp_path.as_uri()) for url in seen.asked)
        assert seen.said == []
