"""A real Chromium that looks at dashboards, and notes whatever it asks for and complains of.

It comes from the system (``apt install chromium``); without one these tests are skipped.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboards import FakeSource, Served
from nearcache.dashboard import Access

_AXE = Path(__file__).parents[3] / ".servers" / "axe" / "axe.min.js"
_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for all tests of a file: its driver keeps an event loop, which others must not meet."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine: apt install chromium")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, which finds what people with disabilities could not use."""
    if not _AXE.is_file():
        pytest.skip("axe-core was not fetched: make axe")
    return _AXE.read_text("utf-8")


@pytest.fixture
def source() -> Iterator[FakeSource]:
    """Twenty workers and an hour, until the test changes it."""
    made = FakeSource()
    yield made
    made.close()


@pytest.fixture
def served(source: FakeSource) -> Iterator[Served]:
    """A dashboard of ``source`` that only shows."""
    with Served(source) as dashboard:
        yield dashboard


@pytest.fixture
def writable(source: FakeSource) -> Iterator[Served]:
    """A dashboard of ``source`` that may forget."""
    with Served(source, Access(writes=True)) as dashboard:
        yield dashboard


@pytest.fixture
def look(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages: ``look(url, width=1280, scheme="light")``.

    Each notes ``asked`` (URLs) and ``complaints``; none may complain, or ask anybody but its own
    server, by the end of the test.
    """
    contexts = []
    pages = []

    def open_page(url: str, *, width: int = 1280, scheme: str = "light", drawn: bool = True) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, locale="en-GB"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.asked, page.complaints, page.home = [], [], "/".join(url.split("/")[:3])
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("dialog", lambda dialog: page.complaints.append(f"dialog: {dialog.message}"))
        page.on(
            "console",
            lambda said: (
                said.type in ("error", "warning")
                and "Failed to load resource" not in said.text  # of servers that tests stop
                and page.complaints.append(said.text)
            ),
        )
        pages.append(page)
        page.goto(url)
        if drawn:
            page.wait_for_selector("body[data-drawn]")
        return page

    yield open_page
    for page in pages:
        others = [url for url in page.asked if not url.startswith((page.home + "/", "data:"))]
        assert others == []
        assert page.complaints == []
    for context in contexts:
        context.close()
