"""The command ``nearcache stats``: what it prints, and how it exits."""

import json
import os
import signal
import subprocess
import sys

import pytest
from rich.console import Console
from typer.testing import CliRunner

from embedders import until
from nearcache import NearCache, Options
from nearcache.cli.app import app
from nearcache.cli.stats import whole
from nearcache.cli.words import ago, amount, duration, long_duration, share, size, sparkline
from nearcache.cli.workers import money
from nearcache.engine.build import open_store
from nearcache.metrics.prices import Prices
from nearcache.metrics.report import read
from reports import report


@pytest.fixture
def run():
    return lambda *arguments, **env: CliRunner().invoke(app, ["stats", *arguments], env=env)


@pytest.fixture
def url(tmp_path):
    """A store with one worker, this process."""
    url = f"sqlite:///{tmp_path}/store.db"
    store, _ = open_store(url, Options())
    with NearCache(url, namespace="docs", options=Options(report=0.1)) as cache:
        for n in range(8):
            cache.get_or_load(f"k{n % 4}", lambda: 1)
        until(lambda: [c.stats.hits for c in read(store).caches] == [4])
        yield url
    store.close()


def drawn(found, width=80):
    console = Console(width=width, highlight=False, force_terminal=False)
    with console.capture() as capture:
        console.print(whole(found, width=width))
    return capture.get()


def test_it_says_what_was_asked_and_who_is_there(run, url):
    ran = run("--store", url)
    assert ran.exit_code == 0, ran.stderr
    assert "docs" in ran.stdout
    assert "50.0 %" in ran.stdout
    assert str(os.getpid()) in ran.stdout
    assert "\x1b" not in ran.stdout


@pytest.fixture
def prices(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text('currency = "EUR"\n[price]\ndocs = 0.5\n')
    return path


def test_with_prices_it_says_what_was_saved_in_money(run, url, prices):
    assert "money: saved 2.00 EUR, spent 2.00 EUR" in run("--store", url, "--prices", prices).stdout
    assert "2.00 EUR" in run("--store", url, NEARCACHE_PRICES=str(prices)).stdout
    document = json.loads(run("--store", url, "--prices", prices, "--json").stdout)
    (cache,) = document["caches"]
    assert (cache["saved_money"], cache["spent_money"], document["currency"]) == (2.0, 2.0, "EUR")


def test_of_what_has_no_price_there_is_no_money(run, url, prices):
    assert "money" not in run("--store", url).stdout
    document = json.loads(run("--store", url, "--json").stdout)
    assert "currency" not in document
    assert "saved_money" not in document["caches"][0]
    prices.write_text("[price]\nothers = 1\n")
    document = json.loads(run("--store", url, "--prices", prices, "--json").stdout)
    assert document["caches"][0]["saved_money"] is None
    assert "names none" in run("--store", url, "--prices", prices).stdout


def test_money_of_some_caches_is_said_to_be_that():
    found = report(3)
    priced = Prices({"docs": 0.25}, "EUR")
    (docs,) = [cache.stats for cache in found.caches if cache.namespace == "docs"]
    (line,) = money(found, priced)
    assert f"saved {docs.saved_loads / 4:,.2f} EUR" in line.plain
    assert f"spent {docs.loads / 4:,.2f} EUR, of 1 priced cache" in line.plain


def test_a_price_file_that_is_none_is_wrong_usage(run, url, prices):
    prices.write_text("price")
    ran = run("--store", url, "--prices", prices)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "no TOML" in ran.stderr


@pytest.mark.parametrize(
    "given,shown",
    [(0, "0.00 €"), (0.00123, "0.0012 €"), (0.996, "1.00 €"), (1234.5, "1,234.50 €")],
)
def test_amounts(given, shown):
    assert amount(given, "€") == shown


def test_the_store_may_come_from_the_environment(run, url):
    assert "docs" in run(NEARCACHE_STORE=url).stdout


def test_json_is_one_document_the_same_as_the_reports(run, url):
    ran = run("--store", url, "--json")
    document = json.loads(ran.stdout)
    assert ran.stderr == ""
    (cache,) = document["caches"]
    assert (cache["hits"], cache["misses"], cache["hit_rate"]) == (4, 4, 0.5)
    store, _ = open_store(url, Options())
    now = read(store).to_dict()
    store.close()
    assert cache.keys() == now["caches"][0].keys()
    assert (cache["minutes"], cache["loads"]) == (
        now["caches"][0]["minutes"],
        now["caches"][0]["loads"],
    )
    assert document["workers"][0]["pid"] == os.getpid()


def test_where_nobody_reports_it_says_why_that_may_be(run, url):
    ran = run("--store", url, "--namespace", "other")
    assert ran.exit_code == 0
    assert "No worker of the namespace 'other' reports" in ran.stdout
    assert "Workers of other namespaces do: docs" in ran.stdout
    assert "NEARCACHE_REPORT=0" in ran.stdout


@pytest.mark.parametrize(
    "arguments,status,sentence",
    [
        ([], 2, "Which store?"),
        (["--store", "http://x"], 2, "unknown store scheme"),
        (["--store", "memory://"], 2, "this process alone"),
        (["--store", "sqlite:////nowhere/at/all.db"], 1, "There is no file"),
        (["--store", "redis://127.0.0.1:1"], 1, "redis://127.0.0.1:1"),
        (["--store", "redis://127.0.0.1:1", "--json", "--watch"], 2, "leave one of them out"),
    ],
)
@pytest.mark.impatient
def test_what_cannot_be_asked_is_a_sentence_on_standard_error(run, arguments, status, sentence):
    ran = run(*arguments)
    assert (ran.exit_code, ran.stdout) == (status, "")
    assert sentence in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_namespace_that_is_none_is_wrong_usage(run, url):
    assert run("--store", url, "--namespace", "x" * 300).exit_code == 2


@pytest.mark.parametrize("width", [20, 40, 56, 80, 200])
def test_it_fits_any_terminal(width):
    for workers in (1, 20):
        lines = drawn(report(workers), width).splitlines()
        assert max(map(len, lines)) <= width


def test_trouble_is_said_below_the_tables():
    text = drawn(report(20), 120)
    assert "1 worker did not report in time" in text
    assert "1 worker cannot hear the store: agents, docs, search" in text
    assert "the breaker of a worker is open" in text
    assert "9 invalidations not in the store yet" in text
    assert "!" not in drawn(report(2))


def test_the_worst_workers_are_named_first():
    text = drawn(report(20), 120)
    order = [text.index(f" {4000 + number} ") for number in (3, 5, 7, 0)]
    assert max(order[:3]) < order[3]


def test_watching_ends_with_ctrl_c(url):
    command = [sys.executable, "-m", "nearcache.cli", "stats", "--store", url, "--watch"]
    with subprocess.Popen(
        [*command, "--every", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        heads = 0
        while heads < 2 and (line := watching.stdout.readline()):
            heads += line.startswith("sqlite:///")
        watching.send_signal(signal.SIGINT)
        rest, errors = watching.communicate()
    assert (heads, watching.returncode, errors) == (2, 0, "")
    assert "\x1b" not in rest


def test_words():
    assert [share(*pair) for pair in ((0, 0), (0, 5), (5, 5), (1, 3), (1, 10**6))] == [
        "–",
        "0 %",
        "100 %",
        "33.3 %",
        "<0.1 %",
    ]
    assert share(999_999, 1_000_000) == "99.9 %"
    assert [duration(s) for s in (None, 3e-7, 4.2e-6, 0.0123, 2.0, 200)] == [
        "–",
        "300 ns",
        "4.2 µs",
        "12 ms",
        "2.0 s",
        "3 min 20 s",
    ]
    assert [long_duration(s) for s in (0, 5, 5.5, 3600, 90_000)] == [
        "0 s",
        "5 s",
        "5.5 s",
        "1 h",
        "1 d 1 h",
    ]
    assert [ago(0.3), ago(2.7)] == ["now", "2 s ago"]
    assert [size(n) for n in (None, 5, 1500, 12_000_000)] == ["–", "5 B", "1.5 kB", "12 MB"]
    assert sparkline([0.0, None, 0.5, 1.0], width=10) == "▁ ▅█"
    assert sparkline([0.0, 1.0, 1.0], width=2) == "██"
    assert sparkline([0.0, 1.0], width=2, plain=True).isascii()
