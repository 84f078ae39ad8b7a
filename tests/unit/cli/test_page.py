"""The demo's page: well-formed, escaped, self-contained."""

import re
from xml.etree import ElementTree as ET

import pytest

from nearcache.cli.charts import Bar, log_bars, share_bars
from nearcache.cli.figures import Report, rate, saved, seconds, times
from nearcache.cli.page import page
from nearcache.cli.passes import Pass

NASTY = "<script>alert(1)</script> & \"quotes' é"


def report(**changes):
    return Report(**{
        "version": "1",
        "model": "m",
        "dimension": 8,
        "corpus": NASTY,
        "cut_short": True,
        "texts": 2000,
        "distinct_texts": 1900,
        "store": "redis://<b>",
        "namespace": "n",
        "model_load_seconds": 1.0,
        "passes": [
            Pass("cold", 2000, 1900, 19.0, 0),
            Pass("warm <near>", 2000, 0, 0.002, 0),
            Pass("slower than cold", 2000, 2000, 40.0, 0),
        ],
        **changes,
    })  # fmt: skip


def texts(element):
    return "".join(element.itertext())


def test_it_is_well_formed_and_escaped():
    html = page(report())
    root = ET.fromstring(html)
    assert NASTY in texts(root.find(".//header"))
    assert "redis://<b>" in texts(root.find(".//header"))
    assert "script" not in {element.tag for element in root.iter()}
    assert len(root.findall(".//{http://www.w3.org/2000/svg}svg")) == 2


def test_it_needs_nothing_from_elsewhere():
    html = page(report())
    assert not re.search(r"\b(src|href)\s*=|url\(|@import", html)
    assert set(re.findall(r"https?://[^\"\s<]*", html)) == {"http://www.w3.org/2000/svg"}
    assert "prefers-color-scheme: dark" in html


def test_the_table_has_the_figures():
    rows = [
        [texts(cell) for cell in row]
        for row in ET.fromstring(page(report())).findall(".//tbody/tr")
    ]
    assert rows == [
        ["cold", "2,000", "1,900", "19.0", "105", "1.0 ×", "1.0"],
        ["warm <near>", "2,000", "0", "0.0020", "1,000,000", "9,500 ×", "20.0"],
        ["slower than cold", "2,000", "2,000", "40.0", "50", "0.5 ×", "-20.0"],
    ]


@pytest.mark.parametrize("differing,kind", [(0, "good"), (3, "bad")])
def test_the_verdict(differing, kind):
    shown = report(passes=[Pass("cold", 9, 9, 1.0, differing)])
    verdict = ET.fromstring(page(shown)).find(f".//p[@class='verdict {kind}']")
    assert verdict.text == shown.verdict()
    assert shown.verified == (kind == "good")
    assert ("3 of 9 in “cold”" in verdict.text) == (kind == "bad")


def widths(svg, kind):
    return [
        float(rect.get("width").rstrip("%"))
        for rect in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}rect")
        if rect.get("class").split()[0] == kind
    ]


def test_a_logarithmic_axis():
    bars = [Bar("a", 100, "100"), Bar("b", 10_000, "10,000"), Bar("c", 1e6, "1M")]
    svg = log_bars("t", bars)
    assert widths(svg, "bar") == [20, 60, 100]  # 10 to 1M: the shortest has a decade to be seen in
    ticks = re.findall(r'class="tick"[^>]*>([^<]*)<', svg)
    assert ticks == ["10", "100", "1k", "10k", "100k", "1M"]


def test_rates_below_one_have_an_axis_too():
    svg = log_bars("t", [Bar("a", 0.05, "0.05"), Bar("b", 0.05, "0.05")])
    assert re.findall(r'class="tick"[^>]*>([^<]*)<', svg) == ["0.01", "0.1"]


def test_shares_of_their_wholes():
    bars = [Bar("a", 50, "50 of 100"), Bar("b", 0, "0 of 50")]
    svg = share_bars("t", bars, [100, 50])
    assert widths(svg, "track") == [100, 50]
    assert widths(svg, "bar") == [50]  # nothing is drawn for nothing


@pytest.mark.parametrize(
    "shown,expected",
    [
        (seconds(123.456), "123.5"),
        (seconds(1.234), "1.23"),
        (seconds(0.0123), "0.0123"),
        (seconds(0.0000314), "0.000031"),
        (rate(9.87), "9.9"),
        (rate(1234.5), "1,234"),
        (times(0.98), "1.0 ×"),
        (times(3210.4), "3,210 ×"),
        (saved(-0.01), "0.0"),
        (saved(-12.34), "-12.3"),
    ],
)
def test_figures_for_people(shown, expected):
    assert shown == expected
