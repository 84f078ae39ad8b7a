"""What ``nearcache top`` draws: one frame from the last report, never higher than the terminal."""

import time
from collections import deque
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nearcache.cli import workers
from nearcache.cli.words import ago, duration, long_duration, share, sparkline
from nearcache.histogram import Distribution

if TYPE_CHECKING:
    from nearcache.metrics.report import Report

__all__ = ["Screen"]

_POINTS = 60
_HEAD = 3  # lines of a table beside its rows: the column heads, the line below, the gap before
_NARROW = 60
_MOST_TROUBLES = 4


class Screen:
    """The last report, and how the hit ratio went while we looked."""

    def __init__(self, address: str, namespace: str | None) -> None:
        self._address, self._namespace = address, namespace
        self._report: Report | None = None
        self._heard = 0.0
        self._lately: deque[float | None] = deque(maxlen=_POINTS)
        self._rate: float | None = None
        self.problem = ""
        self.version = 0

    def show(self, report: "Report") -> None:
        """Take a report."""
        before = self._report
        if before is not None:
            self._compare(before, report)
        self._report, self._heard, self.problem = report, time.monotonic(), ""
        self.version += 1

    def tell(self, problem: str) -> None:
        """Take it that there was no answer."""
        self.problem = problem
        self.version += 1

    def _compare(self, before: "Report", now: "Report") -> None:
        """Note what was asked for since, by the workers that were there before, too."""
        old = {worker.id: worker for worker in before.workers}
        asked = hits = 0
        seconds = 0.0
        for worker in now.workers:
            known = old.get(worker.id)
            if known is None or known.at == worker.at:
                continue
            seconds = max(seconds, worker.at - known.at)
            for mine in worker.caches:
                for was in known.caches:
                    if (was.namespace, was.kind) == (mine.namespace, mine.kind):
                        asked += workers.asked(mine.stats) - workers.asked(was.stats)
                        hits += mine.stats.hits - was.stats.hits
        if seconds <= 0 or asked < 0 or hits < 0:  # nobody spoke, or counts from zero since
            return
        self._rate = asked / seconds
        self._lately.append(hits / asked if asked else None)

    # -- drawing -------------------------------------------------------------------------------

    def drawn(self, width: int, height: int | None, *, plain: bool = False) -> RenderableType:
        """Return a frame for a terminal of so many columns and lines."""
        report = self._report
        if report is None:
            return Text(self.problem or f"asking {self._address} …")
        if not report.workers:
            return Group(*self._troubles(report), Text("\n".join(workers.nobody(report))))
        lines: list[RenderableType] = [workers.headline(report), *self._ratios(width, plain=plain)]
        troubles = self._troubles(report)
        left = 10_000 if height is None else height - len(lines) - 1
        if height is not None:
            troubles = troubles[: max(1, min(_MOST_TROUBLES, left - 8))]
        lines += troubles
        left -= len(troubles)
        tables = [self._tiers(report, width), *self._tables(report, width, left - 4 - _HEAD)]
        for table in tables:
            rows = table.row_count + _HEAD
            if rows > left:
                break
            lines += [Text(), table]
            left -= rows
        if height is not None:
            lines += [Text()] * max(0, left)
            lines.append(Text("q leaves", style="dim"))
        return Group(*lines)

    def _troubles(self, report: "Report") -> list[Text]:
        lines = workers.trouble(report)
        if self.problem:
            silent = ago(time.monotonic() - self._heard)
            text = f"! the store does not answer; this is from {silent}: {self.problem}"
            lines.insert(0, Text(text, style="bold red"))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return lines

    def _ratios(self, width: int, *, plain: bool) -> list[Text]:
        """Return the hit ratio of the last hour, and of the last reports."""
        report = self._report
        assert report is not None, "drawn when there is one"
        stats = report.stats
        minutes: dict[int, tuple[int, int]] = {}
        for cache in report.caches:
            for minute in cache.minutes:
                hits, asked = minutes.get(minute.minute, (0, 0))
                minutes[minute.minute] = hits + minute.hits, asked + minute.asked
        last = int(report.at // 60)
        hour = [minutes.get(minute, (0, 0)) for minute in range(last - 59, last + 1)]
        hour_hits, hour_asked = (sum(pair[i] for pair in hour) for i in (0, 1))
        room = max(5, min(_POINTS, width - 30))
        shares = [hits / asked if asked else None for hits, asked in hour]
        lately = [each for each in self._lately if each is not None]
        now = f"{100 * lately[-1]:.1f} %" if lately else "–"
        rate = "" if self._rate is None else f"  {self._rate:,.0f}/s"
        saved = f"{stats.saved_loads:,} calls, {long_duration(stats.saved_seconds)}"
        lines = [
            f"hit ratio, hour  {share(hour_hits, hour_asked):>7}  "
            + sparkline(shares, width=room, plain=plain),
            f"           now   {now:>7}  " + sparkline(lately, width=room, plain=plain) + rate,
            f"saved            {saved}",
        ]
        return [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]

    def _tiers(self, report: "Report", width: int) -> Table:
        """Return what each tier answered, and how quickly."""
        grid = workers.empty()
        grid.add_column("tier", no_wrap=True, ratio=1)
        for head in ("answers", "share", "p50", "p99"):
            grid.add_column(head, justify="right", no_wrap=True)
        stats, whole = report.stats, workers.asked(report.stats)
        stale = " and stale" if stats.stale_hits else ""
        for name, answers, latency in (
            ("near", stats.near_hits, "near"),
            (f"store{stale}", stats.far_hits + stats.stale_hits, "store"),
            ("loader", stats.misses + stats.coalesced, "load"),
        ):
            found = _together(report, latency)
            half, most = (duration(found.quantile(q)) for q in (0.5, 0.99))
            grid.add_row(name, f"{answers:,}", share(answers, whole), half, most)
        link = _together(report, "link")
        if width >= _NARROW and link.count:
            half, most = (duration(link.quantile(q)) for q in (0.5, 0.99))
            grid.add_row("link (a change is heard within)", "", "", half, most)
        return grid

    def _tables(self, report: "Report", width: int, left: int) -> list[Table]:
        """Return the other tables, each with its share of the lines that are left."""
        hottest = _hottest(report)
        most = max(1, min(len(report.caches), left // 3 - _HEAD))
        tables = [workers.caches(report, most=most, width=width)]
        left -= tables[0].row_count + _HEAD
        if hottest and left > 2 * (_HEAD + 1):
            rows = max(1, min(len(hottest), 5, left // 2 - _HEAD))
            tables.append(_keys(hottest[:rows]))
            left -= rows + _HEAD
        if left > _HEAD:
            tables.append(workers.workers(report, most=left - _HEAD, width=width))
        return tables


def _keys(hottest: list[tuple[str, str, int]]) -> Table:
    grid = workers.empty()
    grid.add_column("hottest", no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column("namespace", no_wrap=True, overflow="ellipsis")
    grid.add_column("found", justify="right", no_wrap=True)
    for namespace, key, count in hottest:
        grid.add_row(Text(key), Text(namespace), f"{count:,}")
    return grid


def _hottest(report: "Report") -> list[tuple[str, str, int]]:
    found = [(c.namespace, key, count) for c in report.caches for key, count in c.hottest]
    return sorted(found, key=lambda each: -each[2])


def _together(report: "Report", name: str) -> "Distribution":
    return sum((cache.latency[name] for cache in report.caches), Distribution())
