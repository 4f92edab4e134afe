"""A real browser without a window, and pages opened in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from archshift.report.html_page import page as html
from tests.build import fleet
from tools.browser import MISSING, installed, playwrights_own

LONG: Final = "".join(("a" * 120, "-", "b" * 120, "{}"))
"""The longest names that a cluster takes, and no place to break them."""


@lru_cache
def page_of(size: int, name: str = "service-{}") -> str:
    """The page of a fleet with so many workloads."""
    image = name if name != "service-{}" else "registry.example/team/app-{}:1.4.2"
    return html(fleet(size, name=name, image=image))


class Reader:
    """Opens pages, and remembers what the browser has to say of them."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        """Keep pages in a folder, as people do who get one by mail."""
        self._browser = browser
        self._folder = folder
        self.complaints: list[str] = []
        self.requests: list[str] = []

    @contextmanager
    def open(self, text: str, width: int = 1000, **options: Any) -> Iterator[Page]:
        file = self._folder / "report.html"
        file.write_text(text, encoding="utf-8")
        context = self._browser.new_context(viewport={"width": width, "height": 900}, **options)
        try:
            page = context.new_page()
            page.on("console", self._heard)
            page.on("pageerror", lambda error: self.complaints.append(str(error)))
            page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
            page.on("request", lambda request: self.requests.append(request.url))
            page.goto(file.as_uri())
            yield page
        finally:
            context.close()
        assert self.requests == [file.as_uri()], "the page asked for something else"

    def _heard(self, message: ConsoleMessage) -> None:
        self.complaints.append(message.text)


# Not for the whole session: as long as it runs, this thread has a running event loop, which the
# tests of other folders could not start beside it.
@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser that is on PATH, or the one that playwright installed."""
    program = installed() or playwrights_own()
    if program is None:
        pytest.fail(MISSING, pytrace=False)
    # The browser keeps crash reports in this folder, even with a profile of its own.
    settings: dict[str, str | float | bool] = {
        **os.environ,
        "XDG_CONFIG_HOME": str(tmp_path_factory.mktemp("config")),
    }
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, env=settings)
        yield started
        started.close()


@pytest.fixture
def reader(browser: Browser, tmp_path: Path) -> Reader:
    """Opens pages."""
    return Reader(browser, tmp_path)
