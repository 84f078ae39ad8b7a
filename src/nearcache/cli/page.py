"""The demo's figures as one self-contained page."""

from html import escape
from importlib.resources import files

from nearcache.cli.charts import Bar, log_bars, share_bars
from nearcache.cli.figures import NOTES, Report, counted, rate, saved, seconds, times

__all__ = ["page"]

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<title>nearcache demo</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<h1>{headline}</h1>
<p class="lead">{facts}</p>
<p class="verdict {verdict_kind}">{verdict}</p>
</header>
<section>
<h2>Texts per second</h2>
<p>Each line is ten times the one before it. Grey: every distinct text through the model.</p>
{speeds}
</section>
<section>
<h2>Texts that reached the model</h2>
<p>The pale track is every text that was asked for, the bar what the model had to embed.</p>
{calls}
</section>
<section>
<h2>The figures</h2>
<div class="wide">
<table>
<thead><tr><th>pass</th>{heads}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
<ul class="notes">
{notes}
</ul>
</section>
</main>
</body>
</html>
"""

_HEADS = ("texts", "model calls", "seconds", "texts/s", "speed-up", "saved seconds")


def page(report: Report) -> str:
    """Return the page: no script, no network, light and dark, well-formed as XML too."""
    passes = report.passes
    speeds = [
        Bar(each.name, each.texts_per_second, f"{rate(each.texts_per_second)} texts/s", quiet=not n)
        for n, each in enumerate(passes)
    ]
    calls = [
        Bar(
            each.name,
            each.model_calls,
            f"{counted(each.model_calls)} of {counted(each.texts)}",
            quiet=not n,
        )
        for n, each in enumerate(passes)
    ]
    return _PAGE.format(
        style=(files("nearcache.cli") / "page.css").read_text("utf-8"),
        headline=escape(_headline(report)),
        facts=escape(_sentence(report)),
        verdict=escape(report.verdict()),
        verdict_kind="good" if report.verified else "bad",
        speeds=log_bars("Texts per second", speeds),
        calls=share_bars("Texts that reached the model", calls, [each.texts for each in passes]),
        heads="".join(f"<th>{head}</th>" for head in _HEADS),
        rows="\n".join(_cells(report, number) for number in range(len(passes))),
        notes="\n".join(f"<li>{escape(note)}</li>" for note in NOTES),
    )


def _headline(report: Report) -> str:
    asked = sum(each.texts for each in report.passes)
    paid = sum(each.model_calls for each in report.passes)
    return f"{asked:,} texts asked for, {paid:,} embedded"


def _sentence(report: Report) -> str:
    whole = "; ".join(report.facts().values()) + "."
    return whole[:1].upper() + whole[1:]


def _cells(report: Report, number: int) -> str:
    each = report.passes[number]
    cells = (
        counted(each.texts),
        counted(each.model_calls),
        seconds(each.seconds),
        rate(each.texts_per_second),
        times(report.speedup(each)),
        saved(report.saved_seconds(each)),
    )
    return (
        f'<tr><th scope="row">{escape(each.name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
    )
