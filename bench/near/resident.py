"""Fill one cache in this process and print how much memory it took, as JSON.

Run by :mod:`bench.near.memory`: ``python -m bench.near.resident KIND D N``, where KIND is a
precision (a whole cache), ``native-`` or ``pure-`` with a precision or ``objects`` or
``objects-ttl`` (a tier), ``seed`` or ``langchain``.
"""

import contextlib
import ctypes
import gc
import json
import sys
from pathlib import Path
from typing import Any

from bench import data
from bench.near import fillers

_FIRST, _PART = 100, 500


def _resident() -> int:
    """Return the resident bytes once free memory is given back."""
    gc.collect()
    with contextlib.suppress(OSError):  # another C library: its slack counts
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def main(kind: str, dimension: int, entries: int) -> dict[str, Any]:
    """Return the growth of the resident set and the bytes of the texts within it."""
    filler = fillers.make(kind, entries)
    source = data.passages(entries) if filler.takes_rows else iter(range(entries))
    text_bytes, counted, done, before = 0, 0, 0, 0
    while done < entries:
        if done == _FIRST:  # what the first entries cost once (imports, tables) is nobody's row
            before, counted = _resident(), filler.counted()
        part = min(_FIRST if done < _FIRST else _PART, entries - done)
        given = [next(source) for _ in range(part)]
        if filler.takes_rows:
            weight = sum(map(sys.getsizeof, given)) if filler.keeps_texts else 0
            filler.put(given, data.vectors(part, dimension, seed=done))
        else:
            weight = filler.put(given, dimension)
        text_bytes += weight if done >= _FIRST else 0
        done += part
        del given
    grown = _resident() - before
    if filler.held() not in (None, entries):
        msg = f"{kind} holds {filler.held()} of {entries} entries"
        raise AssertionError(msg)
    scale = entries / (entries - _FIRST)
    counted = filler.counted() - counted
    return {"grown": grown * scale, "text": text_bytes * scale, "counted": counted * scale}


if __name__ == "__main__":
    json.dump(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])), sys.stdout)
