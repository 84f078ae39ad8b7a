"""One pass in another process: what a restarted program or a second worker finds in the store."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearcache.cli.model import Model, load
from nearcache.cli.passes import Pass, Recorder, measured, open_cache

__all__ = ["ProcessFailed", "answer", "embed"]

Floats = NDArray[np.float32]


class ProcessFailed(Exception):
    """The other process ended without a result."""


def embed(
    name: str, url: str, namespace: str, view: str, texts: list[str], expected: Floats
) -> Pass:
    """Embed texts in a new Python process whose near tier is empty.

    The seconds are those of its one call, not of starting Python. Raises: ProcessFailed.
    """
    with TemporaryDirectory(prefix="nearcache-demo-") as folder:
        np.save(Path(folder, "expected.npy"), expected)
        # On standard input, since a command line shows the store's password to everybody.
        job = {"url": url, "namespace": namespace, "view": view, "name": name, "texts": texts}
        child = subprocess.run(  # noqa: S603  this very package, no shell
            # -P: no file in the user's folder stands in for a module.
            [sys.executable, "-P", "-m", __name__, folder],
            input=json.dumps(job),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        result = Path(folder, "result.json")
        if child.returncode or not result.exists():
            last = (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise ProcessFailed(f"the new process ended with status {child.returncode}: {last}")
        return Pass(**json.loads(result.read_text("utf-8")))


def answer(job: dict[str, Any], expected: Floats, load_model: Callable[[], Model]) -> Pass:
    """Do the work of the new process. The model is loaded only if a text has to be embedded."""
    loaded = cache(load_model)

    def model(texts: list[str]) -> Floats:
        return loaded()(texts)

    texts: list[str] = job["texts"]
    with open_cache(job["url"], job["namespace"], len(texts)) as tiers:
        recorder = Recorder(model)
        recorder.rows.update(zip(texts, expected, strict=True))
        return measured(job["name"], tiers.view(job["view"]), recorder, texts)


def _main(folder: Path) -> None:
    job = json.load(sys.stdin)
    done = answer(job, np.load(folder / "expected.npy"), load)
    fields = {name: getattr(done, name) for name in Pass.__slots__}
    (folder / "result.json").write_text(json.dumps(fields), "utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
