"""A real Chromium: Debian's, or the one that ``playwright install chromium`` brought."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import Any

import pytest
from conftest import make_run

from advbench.report import write_report


@dataclass
class Opened:
    """A page and what it did that it should not have."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def page_file(tmp_path_factory):
    """The page of a run of which the tests know everything."""
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "finished").directory)


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="the extra 'browser' is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with api.sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium starts here: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """Open a file; console errors, exceptions, dialogs and requests to anything but data are noted."""
    contexts = []

    def open_(path, width=1000, dark=False):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.on("console", lambda m: opened.complaints.append(m.text) if m.type == "error" else None)
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("dialog", lambda dialog: (opened.complaints.append(dialog.message), dialog.dismiss()))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(path.as_uri())
        drawn = "[...document.querySelectorAll('[data-chart]')].every(chart => chart.querySelector('svg[aria-hidden]'))"
        opened.page.wait_for_function(drawn)
        return opened

    yield open_
    for context in contexts:
        context.close()
