"""The page in a browser: what it shows, for whom, and what it says when it cannot."""

import copy
import dataclasses

import pytest

import reports
from dashboards import TOKEN, FakeSource, Served
from nearcache.dashboard import Access
from nearcache.errors import StoreUnavailable

EVIL = "<img src=x onerror=alert(1)>"
EMPTY = dataclasses.replace(reports.report(1), workers=()).to_dict()


def text(page, selector):
    return " ".join(page.locator(selector).first.inner_text().replace("\u202f", " ").split())


def state(page, wanted):
    page.wait_for_selector(f"#connection[data-state={wanted}]")


# -- what it shows -------------------------------------------------------------------------------


def test_the_headline_says_what_it_is_for(look, served, source):
    page = look(served.url)
    caches = source.document["caches"]
    near = sum(cache["near_hits"] for cache in caches)
    asked = sum(cache["hits"] + cache["misses"] + cache["coalesced"] for cache in caches)
    spared = sum(cache["saved_loads"] for cache in caches)
    share = round(100 * near / asked)
    assert text(page, "h1") == f"{share} % answered near, {spared:,} calls spared"


def test_pictures_are_drawn(look, served):
    page = look(served.url)
    assert page.locator("#hour svg.chart rect.f-near").count() == 60
    assert page.locator("#caches svg path.trend").count() == 3
    assert page.locator("#latency svg circle").count() == 12
    assert page.locator("#curve svg line.now").count() == 1
    assert page.locator("#curve svg line.twice").count() == 1
    page.locator("#hour svg.chart").hover()
    assert "asked for" in text(page, "#hour .tip")


def test_one_cache_and_one_namespace(look, served):
    page = look(served.url)
    page.select_option("#closer-cache", label="docs · EmbeddingCache")
    assert "50,000" in text(page, "#curve")
    page.select_option("#scope", "search")
    assert page.locator("#caches tbody tr").count() == 1
    assert "counts accesses" in text(page, "#hottest").replace("count accesses", "counts accesses")


def test_what_needs_a_look_is_said_first(look, served):
    page = look(served.url)
    told = text(page, "#attention")
    for words in ("web-3:4007 leaves the store alone", "web-1:4005 does not hear", "Undelivered"):
        assert words in told
    first = page.locator("#workers tbody tr").first
    assert "late" in first.inner_text()


def test_new_figures_come_by_themselves_and_leave_the_focus_where_it_is(look, served, source):
    page = look(served.url)
    page.get_by_role("button", name="All 20").focus()
    page.locator("#hour summary").click()
    page.get_by_role("button", name="All 20").focus()
    later = copy.deepcopy(source.document)
    later["at"] += 2
    later["caches"][0]["saved_loads"] += 1_000_000
    source.document = later
    spared = sum(cache["saved_loads"] for cache in later["caches"])
    page.wait_for_selector(f'[data-figure=\'["sum","saved_loads"]\'][data-value="{spared}"]')
    assert page.evaluate("() => document.activeElement.dataset.action") == "all-workers"
    assert page.locator("#hour details").get_attribute("open") is not None
    page.keyboard.press("Enter")
    assert page.locator("#workers tbody tr").count() == 20


def test_names_from_a_store_are_only_ever_text(look):
    document = reports.report(2).to_dict()
    for cache in document["caches"]:
        cache["namespace"] = cache["kind"] = cache["policy"] = EVIL
        cache["hottest"] = [[EVIL, 3], [f'["{EVIL}","1"]', 2]]
    for worker in document["workers"]:
        for name in ("id", "host", "program", "version", "python", "core"):
            worker[name] = EVIL
        for cache in worker["caches"]:
            cache["namespace"] = cache["kind"] = EVIL
            cache["link"] = {"state": "lost", "since": None, "reason": EVIL}
    document["store"]["address"] = EVIL
    source = FakeSource(document)
    with Served(source, Access(writes=True)) as dashboard:
        page = look(dashboard.url)
        page.fill("#explain-form [name=namespace]", EVIL)
        page.fill("#explain-form [name=key]", EVIL)
        page.click("#explain-form button")
        page.wait_for_selector("#explained p")
        page.locator("[data-action=forget]").first.click()
        page.locator("#sure [value=yes]").click()
        page.wait_for_selector("#forgotten p")
        assert page.locator("img").count() == 0
        assert page.locator("#board").inner_text().count(EVIL) > 10
        source.error = StoreUnavailable(EVIL)
        state(page, "stale")
        assert EVIL in page.locator("#banner").inner_text()
        assert page.locator("img").count() == 0


# -- what it says when it cannot -----------------------------------------------------------------


def test_nobody_reports(look):
    with Served(FakeSource(EMPTY)) as dashboard:
        page = look(dashboard.url)
        assert text(page, "h1") == "No worker is reporting yet"
        assert not page.locator("#board").is_visible()
        assert page.locator("#explain-form").is_visible()


def test_a_store_that_goes_away_and_comes_back(look, served, source):
    page = look(served.url)
    state(page, "live")
    source.error = StoreUnavailable("cannot reach redis://cache")
    state(page, "stale")
    assert "cannot reach redis://cache" in text(page, "#banner")
    assert "old" in text(page, "#banner")
    assert "calls spared" in text(page, "h1")
    source.error = None
    state(page, "live")
    assert page.locator("#banner").inner_text() == ""


def test_a_store_that_was_never_there(look, served, source):
    source.error = StoreUnavailable("cannot reach redis://cache")
    page = look(served.url, drawn=False)
    state(page, "stale")
    assert text(page, "h1") == "The store does not answer"


def test_a_store_that_hangs(look, served, source):
    source.hold.clear()
    page = look(served.url, drawn=False)
    state(page, "stale")
    assert "2 seconds" in text(page, "#banner")
    source.hold.set()
    state(page, "live")


def test_a_dashboard_that_stops_and_starts(look, served):
    page = look(served.url)
    served.stop()
    state(page, "away")
    assert "does not answer" in text(page, "#banner")
    served.start()
    state(page, "live")


def test_pausing(look, served, source):
    page = look(served.url)
    page.click("#pause")
    state(page, "paused")
    before = len(page.asked)
    page.wait_for_timeout(2500)  # longer than between two looks
    assert len(page.asked) == before
    page.click("#pause")
    state(page, "live")


# -- what may be done ----------------------------------------------------------------------------


def test_explaining_a_key(look, served, source):
    page = look(served.url)
    page.fill("#explain-form [name=namespace]", "docs")
    page.fill("#explain-form [name=key]", "a key")
    page.keyboard.press("Enter")
    page.wait_for_selector("#explained p")
    assert "a key is in the store." in text(page, "#explained")
    assert source.explained == [("docs", "a key", None)]
    page.fill("#explain-form [name=key]", "bad")
    page.keyboard.press("Enter")
    page.wait_for_selector("#explained .bad")
    assert "that is no key" in text(page, "#explained")


def test_nothing_can_be_forgotten_unless_that_is_allowed(look, served):
    page = look(served.url)
    assert not page.locator("#forgetting").is_visible()
    assert page.locator("[data-action=forget]").count() == 0


def test_forgetting_asks_first(look, writable, source):
    page = look(writable.url)
    button = page.locator("[data-action=forget]").first
    button.click()
    page.locator("#sure [value=no]").click()
    assert source.forgotten == []
    button.click()
    page.keyboard.press("Escape")
    assert source.forgotten == []
    button.click()
    page.locator("#sure [value=yes]").click()
    page.wait_for_selector("#forgotten .good")
    assert source.forgotten == [("agents", "key", "fact:0", None)]


@pytest.mark.parametrize("what,name", [("model", "m"), ("tag", "t"), ("everything", None)])
def test_forgetting_more_than_a_key(look, writable, source, what, name):
    page = look(writable.url)
    page.fill("#forget-form [name=namespace]", "docs")
    page.select_option("#forget-form [name=what]", what)
    assert page.locator("#forget-form [name=name]").is_visible() == (name is not None)
    if name:
        page.fill("#forget-form [name=name]", name)
    page.click("#forget-form button")
    page.locator("#sure [value=yes]").click()
    page.wait_for_selector("#forgotten .good")
    assert source.forgotten == [("docs", what, name, None)]


def test_the_token(look, source):
    with Served(source, Access(token=TOKEN)) as dashboard:
        page = look(dashboard.url, drawn=False)
        page.fill("[name=token]", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_url("**/sign-in")
        page.fill("[name=token]", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-drawn]")
        assert page.url == dashboard.url
        assert page.evaluate("() => document.cookie") == ""
        other = look(dashboard.url + "?token=" + TOKEN)
        assert other.url == dashboard.url


# -- for everybody -------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_nobody_is_shut_out(look, writable, axe, scheme, width):
    page = look(writable.url, width=width, scheme=scheme)
    for details in page.locator("summary").all():
        details.click()
    assert serious(page, axe) == []


@pytest.mark.parametrize("width", [320, 375, 768, 961, 1280])
def test_nothing_has_to_be_scrolled_sideways(look, width):
    document = reports.report(3).to_dict()
    for cache in document["caches"]:
        cache["namespace"] += "-" + "long" * 40
        cache["near_hits"] *= 10**12
        cache["saved_loads"] = cache["near_hits"]
        cache["saved_seconds"] *= 10**9
        cache["hottest"] = [["k" * 200, 10**15]]
    for worker in document["workers"]:
        worker["host"] = "a." * 60
    with Served(FakeSource(document)) as dashboard:
        page = look(dashboard.url, width=width)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_all_can_be_reached_by_keyboard(look, writable):
    page = look(writable.url)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.id || document.activeElement.name"))
        outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or page.evaluate("() => document.activeElement === document.body")
    assert {"pause", "scope", "closer-cache", "namespace", "key", "model", "what"} <= reached


def serious(page, axe):
    """The violations that are serious: what, and where."""
    # by the debugger's door: the page's own policy lets no further script in
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": axe})
    result = page.evaluate("async () => await axe.run(document, { resultTypes: ['violations'] })")
    return [
        (violation["id"], violation["impact"], [node["html"][:120] for node in violation["nodes"]])
        for violation in result["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
