"""Every figure on the page is the one that ``nearcache stats --json`` prints at that moment."""

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import reports
from embedders import until
from nearcache.cli.app import app
from nearcache.metrics.prices import Prices
from nearcache.metrics.report import read
from nearcache.stores.sqlite import SQLiteStore

WORKER = Path(__file__).parents[2] / "dashboard_worker.py"
TIERS = ("near_hits", "far_hits", "stale_hits", "coalesced", "misses")
MINUTE = ("minute", "near_hits", "far_hits", "stale_hits", "misses", "coalesced")


def asked(stats):
    return sum(stats[tier] for tier in TIERS)


def expected(document, path):
    """The figure that stands at a path of the page, from the document."""
    caches = document["caches"]
    match path:
        case ["sum", "asked"]:
            return sum(map(asked, caches))
        case ["sum", field]:
            return sum(cache[field] or 0 for cache in caches)  # what has no price is None
        case ["share", field]:
            return sum(cache[field] for cache in caches) / sum(map(asked, caches))
        case ["store", field]:
            return document["store"][field]
        case ["minute", minute, field]:
            rows = [dict(zip(MINUTE, row, strict=False)) for c in caches for row in c["minutes"]]
            rows = [row for row in rows if row["minute"] == minute]
            return sum(asked(row) if field == "asked" else row[field] for row in rows)
        case ["hottest", namespace, kind, key]:
            return dict(found(caches, namespace, kind)["hottest"])[key]
        case ["caches", namespace, kind, *fields]:
            value = found(caches, namespace, kind)
            if fields == ["asked"]:
                return asked(value)
            for field in fields:
                value = value[field]
            return value
        case ["workers", name, field]:
            (worker,) = (one for one in document["workers"] if one["id"] == name)
            everything = sum(map(asked, worker["caches"]))
            if field == "asked":
                return everything
            if field == "ratio":
                hits = sum(cache["hits"] for cache in worker["caches"])
                return hits / everything if everything else None
            return worker[field]
    raise AssertionError(path)


def found(caches, namespace, kind):
    (one,) = (c for c in caches if (c["namespace"], c["kind"]) == (namespace, kind))
    return one


def figures(page):
    """(path, value) of every figure on the page, its tables and all its caches included."""
    for name in ("all-caches", "all-workers"):
        button = page.locator(f"[data-action={name}]")
        if button.count():
            button.click()
    for summary in page.locator("summary").all():
        summary.click()
    page.wait_for_selector("#hour tbody tr")
    seen = {}
    for choice in page.locator("#closer-cache option").all():
        page.select_option("#closer-cache", choice.get_attribute("value"))
        for path, value in page.evaluate(
            "() => [...document.querySelectorAll('[data-figure]')]"
            ".map((one) => [one.dataset.figure, one.dataset.value])"
        ):
            seen[path] = value
    return [(json.loads(path), json.loads(value)) for path, value in seen.items()]


def check(page, document, *, but=()):
    shown = figures(page)
    assert len(shown) > 30
    for path, value in shown:
        if path[-1] not in but:
            assert value == pytest.approx(expected(document, path), rel=1e-12), path


@pytest.mark.parametrize("price, digits", [(0.002, 0), (0.0001, 2)])
def test_of_money_where_there_are_prices(look, served, source, price, digits):
    prices = Prices({"docs": price}, "EUR")
    source.document = reports.report().to_dict(prices)
    page = look(served.url)
    tile = page.locator("[data-key='Spared money']")
    saved = sum(cache["saved_money"] or 0 for cache in source.document["caches"])
    assert (saved < 1000) == (digits == 2)
    assert f"{saved:,.{digits}f} EUR" in tile.inner_text()
    assert "priced cache" in tile.inner_text()
    check(page, source.document)


def test_without_prices_there_is_no_money(look, served):
    assert look(served.url).locator("[data-key='Spared money']").count() == 0


def test_of_twenty_workers(look, served, source):
    check(look(served.url), source.document)


def test_of_a_store_that_a_worker_wrote_to(look, tmp_path):
    url = f"sqlite:///{tmp_path}/cache.db"
    with worker(url), contextlib.closing(SQLiteStore(str(tmp_path / "cache.db"))) as store:
        until(lambda: {cache.stats.hits for cache in read(store).caches} == {101, 6})
    # it was killed: what it said last stands for some seconds more
    with dashboard(url) as address:
        page = look(address)
        printed = CliRunner().invoke(app, ["stats", "--store", url, "--json"])
        document = json.loads(printed.stdout)
        assert [worker["pid"] for worker in document["workers"]]
        check(page, document, but=("age",))
        assert page.locator("#hottest li").count() == 3
        assert "episodic · m1 · a tenant" in page.locator("#hottest").inner_text()


@contextlib.contextmanager
def worker(url):
    with subprocess.Popen([sys.executable, WORKER, url], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"asked\n"
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def dashboard(url, *options):
    command = [sys.executable, "-m", "nearcache.cli", "dashboard", "--store", url, "--port", "0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            (address,) = re.findall(
                r"^(http://127\.0\.0\.1:\d+/)$", process.stdout.readline().strip()
            )
            yield address
        finally:
            process.terminate()
            assert process.wait(20) == 0
