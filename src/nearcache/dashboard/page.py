"""The page: one file with its style and its script inside, and the policy that lets these in."""

import base64
import hashlib
from functools import cache
from html import escape
from importlib.resources import files
from typing import NamedTuple

__all__ = ["Page", "board", "door"]

_SCRIPTS = ("dom.js", "words.js", "totals.js", "charts.js", "sections.js", "live.js")

_DOOR = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>nearcache: token</title>
<style>{style}</style>
</head>
<body>
<main>
<section class="card empty">
<h1>{title}</h1>
<p class="about">{why}</p>
<form method="post" action="sign-in">
<label>Token <input type="password" name="token" required autofocus
 autocomplete="current-password"></label>
<button type="submit" class="main">Look</button>
</form>
</section>
</main>
</body>
</html>
"""


class Page(NamedTuple):
    """A page, and the Content-Security-Policy it goes with."""

    body: bytes
    policy: str


@cache
def board() -> Page:
    """Return the page that shows the figures.

    Its style and script are allowed by their hashes: nothing that a store holds could ever run.
    """
    style = _text("style.css")
    script = '"use strict";(() => {\n' + "\n".join(map(_text, _SCRIPTS)) + "\n})();\n"
    whole = _text("page.html").replace("{style}", style).replace("{script}", script)
    return Page(
        whole.encode(),
        "default-src 'none'; "
        f"style-src {_hash(style)}; script-src {_hash(script)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    )


@cache
def door(*, wrong: bool) -> Page:
    """Return the page that asks for the token."""
    style = _text("style.css")
    whole = _DOOR.format(
        style=style,
        title=escape("That is not its token" if wrong else "This dashboard wants its token"),
        why=escape("It is what the dashboard was started with: --token, or its environment."),
    )
    return Page(
        whole.encode(),
        f"default-src 'none'; style-src {_hash(style)}; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'",
    )


def _text(name: str) -> str:
    return (files("nearcache.dashboard") / "static" / name).read_text("utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
