"""A worker for a dashboard to show: asks its caches, says so, and waits to be killed."""

import sys
import time

from nearcache import HotMemoryCache, MemoryKey, NearCache, Options


def main(url: str) -> None:
    options = Options(report=2.0)
    docs = NearCache(url, namespace="docs", options=options)
    agents = HotMemoryCache(url, namespace="agents/team", options=options)
    for turn in range(3):
        docs.get_or_load_batch(
            [f"k{i}" for i in range(50 + turn)], lambda keys: dict.fromkeys(keys, 1)
        )
    for i in (1, 1, 1, 1, 2, 2, 2, 3, 3):
        agents.get_or_load(MemoryKey("episodic", f"m{i}", "a tenant"), lambda: {"is": "there"})
    print("asked", flush=True)
    time.sleep(300)


if __name__ == "__main__":
    main(sys.argv[1])
