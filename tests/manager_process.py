"""A process with a CacheManager that holds what it finds: ``python manager_process.py hold URL …``.

FOLDER is where it meets the test, as ``processes.py`` says.
"""

from pathlib import Path

from embedders import until
from nearcache.caches.manager import CacheManager
from nearcache.caches.memory_key import MemoryKey
from processes import HANG, Meeting, perform


def hold(url: str, folder: str, *wanted: str) -> None:
    """Hold a memory and two lists near; expect what is wanted of them, one word after the other.

    A word is the letters of what is still there: m(emory), l(ist of the scope), o(ther list).
    """
    with CacheManager.from_url(url) as manager:

        def left() -> str:
            there = {
                "m": manager.get_memory(MemoryKey("episodic", "cat", "ada")),
                "l": manager.get_retrieval("cats", "ada"),
                "o": manager.get_retrieval("dogs", "bob"),
            }
            return "".join(letter for letter, value in there.items() if value is not None) or "-"

        assert left() == "mlo"
        Meeting(folder).start_together()
        for number, word in enumerate(wanted):
            until(lambda word=word: left() == word, HANG)
            (Path(folder) / f"saw-{number}").touch()


if __name__ == "__main__":
    perform(globals())
