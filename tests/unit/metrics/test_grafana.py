"""The dashboard for Grafana: whole, and of names that are exported."""

import json
import re
from pathlib import Path

import pytest

from nearcache import EmbeddingCache, MemoryStore, NearCache
from nearcache.metrics.prices import Prices
from nearcache.metrics.prometheus import families

FILE = Path(__file__).parents[3] / "docs" / "grafana" / "nearcache.json"
BOARD = json.loads(FILE.read_text("utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
NAME = re.compile(r"\bnearcache_\w+")


@pytest.fixture(scope="module")
def exported():
    """Every sample's name, with the names of its labels."""
    found = {}
    with NearCache(MemoryStore(), namespace="x") as cache, EmbeddingCache(namespace="y"):
        cache.get("key")
        for family in families(prices=Prices({"*": 1})):
            for suffix, labels, _ in family.samples:
                found.setdefault(family.name + suffix, set()).update(labels)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_name_and_label_of_an_expression_is_exported(expression, exported):
    names = NAME.findall(expression)
    assert names
    labels = {label for name in names for label in exported.get(name, ())}
    assert {name for name in names if name not in exported} == set()
    asked = re.findall(r"[{,](\w+)=~?\"", expression)
    asked += [one for by in re.findall(r"by \(([^)]*)\)", expression) for one in by.split(", ")]
    assert set(asked) <= labels


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_counters_are_rates_and_brackets_close(expression):
    for name in NAME.findall(expression):
        if name.endswith(("_total", "_bucket")):
            assert re.search(rf"(rate|increase)\({name}\b", expression), name
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_everything_that_is_exported_is_on_the_dashboard(exported):
    shown = {name for expression in EXPRESSIONS for name in NAME.findall(expression)}
    families_shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in exported
    } - families_shown == set()


def test_it_can_be_imported_into_any_grafana():
    assert (BOARD["uid"], BOARD["title"]) == ("nearcache", "nearcache")
    assert BOARD["schemaVersion"] >= 36
    names = [variable["name"] for variable in BOARD["templating"]["list"]]
    assert names == ["datasource", "namespace", "kind"]
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        used = set(re.findall(r"\$(\w+)", " ".join(t["expr"] for t in panel["targets"])))
        assert used <= {*names, "__rate_interval"}


def test_no_panel_lies_on_another():
    taken = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
