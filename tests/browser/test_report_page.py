"""The page of the report, in a real browser: it fits, it is read by everybody, it sorts and filters."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from tests.browser.conftest import LONG, Reader, page_of
from tests.build import fleet

SIZES = (30, 3000)
ATTACK = "<img src=x onerror=alert({0})><script>alert({0})</script>{0}"

_OUTSIDE = """() => [...document.querySelectorAll('main *, header *')].filter((element) => {
  const box = element.getBoundingClientRect();
  return box.width && box.right > innerWidth + 1 && !element.closest('.scroll, .skip');
}).map((element) => element.outerHTML.slice(0, 120))"""


def rows(page: Page, table: str, column: int) -> list[str]:
    """A column of the rows that are shown."""
    script = """([table, column]) => [...document.getElementById(table).tBodies[0].rows]
        .filter((row) => row.checkVisibility()).map((row) => row.cells[column].textContent.trim())"""
    found: list[str] = page.evaluate(script, [table, column])
    return found


def numbers(page: Page, table: str, column: int) -> list[float]:
    """A column of numbers of the rows that are shown."""
    return [float(text.replace(",", "")) for text in rows(page, table, column)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("width", [400, 1000, 1600])
def test_it_fits_the_window(reader: Reader, size: int, width: int) -> None:
    """Nothing sticks out of the window but what scrolls in a frame of its own; the browser has no complaint,
    and asks for nothing but the file."""
    with reader.open(page_of(size), width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(_OUTSIDE) == []
        expect(page.locator("#all tbody tr")).to_have_count(size)
    assert reader.complaints == []


@pytest.mark.parametrize("width", [400, 1000, 1600])
def test_the_longest_names_fit_too(reader: Reader, width: int) -> None:
    """Names of 250 characters without a place to break wrap where they stand."""
    with reader.open(page_of(30, LONG), width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(_OUTSIDE) == []
        widest = "Math.max(...[...document.querySelectorAll('th, td')].map((one) => one.offsetWidth))"
        assert page.evaluate(widest) <= 800, "a cell is no wider than a paragraph"


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(reader: Reader, width: int, scheme: str) -> None:
    """Contrast in both schemes, names of controls, tables, landmarks, keyboard access to what scrolls."""
    with reader.open(page_of(30), width, color_scheme=scheme) as page:
        results = Axe().run(page)
        assert [one["id"] for one in results.response["violations"]] == [], results.generate_report()
        passed = {one["id"] for one in results.response["passes"]}
        # That it looked at all.
        assert {"color-contrast", "button-name", "label", "scrollable-region-focusable"} <= passed


def test_dark_is_dark(reader: Reader) -> None:
    """The page follows the reader's system, and paper is white whatever that is."""
    background = "getComputedStyle(document.documentElement).backgroundColor"
    with reader.open(page_of(30), color_scheme="dark") as page:
        assert page.evaluate(background) == "rgb(18, 23, 28)"
        page.emulate_media(media="print")
        assert page.evaluate(background) == "rgb(255, 255, 255)"
    reader.requests.clear()
    with reader.open(page_of(30), color_scheme="light") as page:
        assert page.evaluate(background) == "rgb(255, 255, 255)"


@pytest.mark.parametrize("size", SIZES)
def test_columns_sort(reader: Reader, size: int) -> None:
    """Numbers from the largest first, names from A; again turns round; the order is told to screen readers;
    no row is lost."""
    report = fleet(size)
    with reader.open(page_of(size)) as page:
        column = page.locator("#all thead th", has_text="vCPU on x86")
        column.get_by_role("button").click()
        assert column.get_attribute("aria-sort") == "descending"
        shown = numbers(page, "all", 6)
        assert shown == sorted(shown, reverse=True)
        assert len(shown) == size
        assert sum(shown) == pytest.approx(sum(one.vcpu_x86 for one in report.workloads), abs=0.05 * size)
        column.get_by_role("button").click()
        assert column.get_attribute("aria-sort") == "ascending"
        assert numbers(page, "all", 6) == sorted(shown)
        name = page.locator("#all thead th", has_text="Workload")
        name.get_by_role("button").click()
        assert column.get_attribute("aria-sort") is None
        assert name.get_attribute("aria-sort") == "ascending"
        # With numbers as people count: service-2 before service-10.
        assert [text.rpartition("-")[2] for text in rows(page, "all", 0)] == [str(one) for one in range(size)]
    assert reader.complaints == []


@pytest.mark.parametrize("size", SIZES)
def test_rows_are_found(reader: Reader, size: int) -> None:
    """By words in any order and by state; how many is said aloud; with nothing asked all are back."""
    report = fleet(size)
    with reader.open(page_of(size)) as page:
        tools = page.locator('.tools[data-table="all"]')
        tools.get_by_role("combobox", name="State").select_option("blocked")
        blocked = [one.workload for one in report.in_state("blocked")]
        assert rows(page, "all", 0) == blocked
        said = tools.get_by_role("status")
        assert said.inner_text() == f"{len(blocked)} of {size} shown"
        assert said.get_attribute("aria-live") == "polite"
        tools.get_by_role("searchbox").fill("AMD64-only team-4")
        wanted = [
            one.workload
            for one in report.in_state("blocked")
            if "amd64-only" in one.reason and one.owner.endswith("team-4")
        ]
        assert rows(page, "all", 0) == wanted
        assert wanted
        tools.get_by_role("combobox", name="State").select_option("all")
        tools.get_by_role("searchbox").fill("")
        assert len(rows(page, "all", 0)) == size
    assert reader.complaints == []


def test_what_is_filtered_stays_so_when_it_is_sorted(reader: Reader) -> None:
    """Both at once, as people use them."""
    with reader.open(page_of(30)) as page:
        page.locator('.tools[data-table="images"] input').fill("base-1")
        before = rows(page, "images", 0)
        page.locator("#images thead th").first.get_by_role("button").click()
        assert rows(page, "images", 0) == sorted(before)
        assert before


def test_the_keyboard_does_all_of_it(reader: Reader) -> None:
    """The first stop skips to the report; headings of columns are reached, seen in focus and pressed."""
    with reader.open(page_of(30)) as page:
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the report")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.closest('#by-owner th') !== null"):
                break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.keyboard.press("Enter")
        owner = page.locator("#by-owner thead th").first
        assert owner.get_attribute("aria-sort") == "ascending"
        assert rows(page, "by-owner", 0) == sorted(rows(page, "by-owner", 0))


def test_it_is_read_without_scripts(reader: Reader) -> None:
    """All rows, and no control that would do nothing."""
    with reader.open(page_of(30), java_script_enabled=False) as page:
        expect(page.locator("#all tbody tr")).to_have_count(30)
        expect(page.locator(".tools").first).to_be_hidden()
        expect(page.get_by_role("button")).to_have_count(0)


def test_it_prints_in_whole(reader: Reader) -> None:
    """On paper nothing scrolls: every row is there, and no control."""
    with reader.open(page_of(3000)) as page:
        page.emulate_media(media="print")
        expect(page.locator(".tools").first).to_be_hidden()
        frame = page.locator(".scroll", has=page.locator("#all"))
        assert frame.evaluate("(one) => one.scrollHeight - one.clientHeight") <= 1
        pdf = page.pdf()
        assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") > 30


def test_an_attack_by_name_runs_nothing(reader: Reader) -> None:
    """Names that are markup are read as names; markup that got in all the same would run nothing."""
    with reader.open(page_of(30, ATTACK)) as page:
        expect(page.locator("#all tbody th").first).to_contain_text("<img src=x onerror=alert(")
        assert page.locator("img").count() == 0
        assert reader.complaints == []
        said = page.evaluate(
            """() => new Promise((done) => {
              document.addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective));
              const script = document.createElement('script');
              script.textContent = 'document.title = "owned"';
              document.body.append(script);
            })"""
        )
        assert said == "script-src-elem"
        assert page.title() == "prod: 43 % on Graviton"


def figures(page: Page) -> dict[str, str]:
    """What the cards say: title to figure."""
    script = """() => Object.fromEntries([...document.querySelectorAll('.card')].map(
        (card) => [card.querySelector('dt').textContent, card.querySelector('.figure').textContent]))"""
    found: dict[str, Any] = page.evaluate(script)
    return found


@pytest.mark.parametrize("size", SIZES)
def test_it_says_what_the_report_says(reader: Reader, size: int) -> None:
    """The first figures that one sees are those of the JSON."""
    report = fleet(size)
    share = report.fleet.graviton / report.fleet.pods
    ready = len(report.in_state("ready", "capped"))
    with reader.open(page_of(size)) as page:
        assert figures(page) == {
            "Movable pods on Graviton": f"{share * 100:.1f} %",
            "Workloads that can move": f"{ready:,} of {size:,}",
            "vCPU held on x86 by images": f"{report.vcpu_blocked:,.1f}",
            "x86 nodes that must stay": f"{report.guard.nodes_that_must_stay} of {report.guard.nodes}",
        }
        assert rows(page, "images", 0) == [one.image for one in report.blockers]
        assert len(rows(page, "needs", 0)) == len(report.guard.needs)
