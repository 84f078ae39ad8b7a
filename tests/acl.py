"""The user that docs/operations.md says is enough, on the suite's own servers."""

import re
import shlex
from pathlib import Path
from typing import Any

from servers import Server

__all__ = ["COMMANDS", "ON_A_CLUSTER", "denied", "grant"]

_PAGE = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
_PASSWORD = "a-long-password"

# What redis-py says of itself when it connects; it goes on where that is refused.
_UNASKED = {"client|setinfo", "client|maint_notifications"}


def _documented() -> list[list[str]]:
    """Return the words of each ``ACL SETUSER nearcache …`` as the page gives them."""
    pattern = re.compile(r"^ACL SETUSER nearcache .*?(?=^```)", re.MULTILINE | re.DOTALL)
    found = pattern.findall(_PAGE.read_text("utf-8"))
    return [shlex.split(one.replace("PASSWORD", _PASSWORD)) for one in found]


_USER, _ON_A_CLUSTER = _documented()

COMMANDS = sorted(word[1:] for word in _USER if word.startswith("+"))
"""The commands that the user may give."""
ON_A_CLUSTER = _ON_A_CLUSTER[3:]
"""The rules that a cluster's nodes need on top."""


def grant(server: Server, *more: str) -> str:
    """Make the user on a server, with the rules ``more`` on top; return the URL it connects by."""
    with server.client() as client:
        client.execute_command(*_USER, *more)
        client.execute_command("ACL", "LOG", "RESET")
    return f"redis://nearcache:{_PASSWORD}@127.0.0.1:{server.port}/0"


def denied(server: Server) -> set[str]:
    """Return the commands and keys that a server refused since ``grant``."""
    with server.client() as client:
        log = client.acl_log(128)
    return {_text(entry["object"]).lower() for entry in log} - _UNASKED


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
