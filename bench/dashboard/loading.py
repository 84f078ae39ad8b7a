"""How long the page takes in a real Chromium, and how much it fetches."""

import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from bench.dashboard.seed import seed
from bench.report import Judged, Report, Table
from bench.servers import valkey
from nearcache.stores.redis.store import RedisStore

__all__ = ["run"]

_TARGET = 300  # ms
_SIZES = (1, 20, 100)
_JUDGED = 20


def run(*, quick: bool) -> Report:
    """Load the page again and again, each time in a browser that has never seen it."""
    from playwright.sync_api import sync_playwright

    report = Report(
        "dashboard", "The dashboard, from the click to drawn figures", quick, texts="none"
    )
    table = Table(
        "Navigation start to figures drawn, ms",
        ["workers", "median", "best", "worst", "page, kB", "figures, kB", "snapshots, kB"],
    )
    with sync_playwright() as driver, valkey() as port:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for workers in _SIZES:
            url = f"redis://127.0.0.1:{port}/0"
            with closing(RedisStore(url)) as store:
                size = seed(store, workers)
            with _dashboard(url) as address:
                found = [_load(browser, address) for _ in range(3 if quick else 15)]
            seconds = sorted(each for each, _ in found)
            page, figures = found[0][1]
            table.rows.append(
                [workers, statistics.median(seconds), seconds[0], seconds[-1],
                 page / 1000, figures / 1000, size / 1000]
            )  # fmt: skip
            if workers == _JUDGED:
                report.judged.append(
                    Judged("20 workers, 1 h", _TARGET, statistics.median(seconds), "ms")
                )
        browser.close()
    report.tables.append(table)
    report.notes.append(
        "A fresh browser context each time, on loopback, three caches a worker, an hour of minutes "
        "each, over Valkey, which every load reads. Two requests: the page, and its figures."
    )
    return report


def _load(browser: Any, address: str) -> tuple[float, list[int]]:
    time.sleep(1.1)  # longer than a report is kept for: each load reads the store
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    sizes: list[int] = []
    page = context.new_page()
    page.on("response", lambda answer: sizes.append(int(answer.headers.get("content-length", 0))))
    page.goto(address)
    page.wait_for_selector("body[data-drawn]")
    mark = "() => performance.getEntriesByName('drawn').map((one) => one.startTime)"
    while not (drawn := page.evaluate(mark)):
        pass
    context.close()
    return drawn[0], sizes[:2]


@contextmanager
def _dashboard(url: str) -> Iterator[str]:
    command = [sys.executable, "-m", "nearcache.cli", "dashboard", "--store", url, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield re.findall(r"http://\S+", process.stdout.readline())[0]
        finally:
            process.terminate()
