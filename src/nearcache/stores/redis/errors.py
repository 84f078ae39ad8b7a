"""What a server says of a failure, without what it was asked, and by whom."""

import re

__all__ = ["hush"]

# "unknown command 'XADD', with args beginning with: 'a key' 'a value'"
_ARGUMENTS = re.compile(r",?\s*with args beginning with:.*", re.DOTALL)
_USER = re.compile(r"\bUser \S+ has no permissions")


def hush(error: Exception) -> None:
    """Take keys, values and the user's name out of an error, which may be logged or shown."""
    if len(error.args) == 1 and isinstance(error.args[0], str):
        text = _ARGUMENTS.sub("", error.args[0])
        error.args = (_USER.sub("this user has no permissions", text),)
