"""LiteLLM's proxy as its own command starts it, but for the bound of its cache in memory.

Run by the Python of ``.venv-litellm``. The cache would hold 200 entries, and no option says more:
a request of 256 texts would never be warm.
"""

import sys

from litellm.caching.in_memory_cache import InMemoryCache

ENTRIES = 100_000


def main() -> None:
    """Start what ``litellm --config … --port …`` starts."""
    begin = InMemoryCache.__init__

    def init(self, max_size_in_memory=ENTRIES, *arguments, **options):
        begin(self, max(max_size_in_memory or 0, ENTRIES), *arguments, **options)

    InMemoryCache.__init__ = init
    from litellm import run_server

    sys.argv[0] = "litellm"
    run_server()


if __name__ == "__main__":
    main()
