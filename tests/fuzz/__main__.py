"""``python -m fuzz``: coverage-guided fuzzing of everything that reads bytes, with atheris.

    PYTHONPATH=src:tests .venv-fuzz/bin/python -m fuzz [what …] [--inputs N] [--corpus DIR]

Each target runs in a process of its own, one after the other, and gets its share of the inputs.
The process that found something ends, and its input is written to ``fuzz-failures/``; try it with
``python -m fuzz what --input FILE``.
"""

import argparse
import importlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzz.harness import TARGETS

# How many of a hundred inputs a target gets: a file takes a thousand times as long as a key.
SHARES = {
    "vectors": 8.8, "values": 18, "codecs": 15, "typed": 9, "keys": 22, "urls": 2, "replies": 2,
    "stream": 1, "topology": 1, "sqlite": 0.2, "log": 21,
}  # fmt: skip
_LONGEST = 400  # bytes of an input
_SLOW = 20  # seconds after which an input counts as one that hangs


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("what", nargs="*", choices=[[], *TARGETS], default=[])
    parser.add_argument("--inputs", type=float, default=1e5, help="of all targets together")
    parser.add_argument("--corpus", type=Path, help="where inputs that found new paths are kept")
    parser.add_argument("--input", type=Path, help="try this one, without atheris")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.input is not None:
        _target(given.what[0]).one(given.input.read_bytes())
        return 0
    if given.inside is not None:
        _fuzz(given.what[0], given.inside, given.corpus, given.seed)
        return 0
    chosen = given.what or list(TARGETS)
    whole = sum(SHARES[what] for what in chosen)
    print(f"{'target':10} {'inputs':>10} {'per second':>10} {'paths':>6}  found", flush=True)
    found = [
        _run(what, round(given.inputs * SHARES[what] / whole), given.corpus, given.seed)
        for what in chosen
    ]
    return int(any(found))


def _target(what: str):
    return importlib.import_module(f"fuzz.fuzz_{what}")


def _run(what: str, count: int, corpus: Path | None, seed: int) -> bool:
    """Run one target and print a line; say whether it found something."""
    with tempfile.TemporaryDirectory() as own:
        where = own if corpus is None else corpus / what
        command = [sys.executable, "-m", "fuzz", what, "--inside", str(count)]
        command += ["--corpus", str(where), "--seed", str(seed)]
        begun = time.monotonic()
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
        took = time.monotonic() - begun
    units = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    paths = re.findall(r"\bft: (\d+)", done.stderr) or [0]
    ran = int(units[1]) if units else 0
    failed = done.returncode != 0 or ran < count
    print(
        f"{what:10} {ran:>10,} {ran / took:>10,.0f} {paths[-1]:>6}  {'1' if failed else 'nothing'}",
        flush=True,
    )
    if failed:
        print(done.stderr[-4000:], flush=True)
    return failed


def _fuzz(what: str, count: int, corpus: Path, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["nearcache"]):
        target = _target(what)
    corpus.mkdir(parents=True, exist_ok=True)
    failures = Path("fuzz-failures")
    failures.mkdir(exist_ok=True)
    for number, data in enumerate(target.SEEDS):
        (corpus / f"seed-{number}").write_bytes(data)
    arguments = [sys.argv[0], f"-runs={count}", f"-seed={seed}", f"-max_len={_LONGEST}"]
    arguments += [f"-timeout={_SLOW}", "-print_final_stats=1", "-rss_limit_mb=4096"]
    arguments += [f"-artifact_prefix={failures}/{what}-", str(corpus)]
    atheris.Setup(arguments, target.one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
