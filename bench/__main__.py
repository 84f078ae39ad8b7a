"""``python -m bench``: run the benchmarks and write their tables to bench/results."""

import argparse
import importlib
import json
import sys
from pathlib import Path

from bench import machine, report

NEAR = ("near.single", "near.batch", "near.memory", "near.cleanup", "near.curve")
NAMES = (
    *NEAR,
    "imports",
    "sim",
    "advise",
    "redis_store",
    "sqlite_store",
    "coherence",
    "memory",
    "metrics",
    "dashboard",
    "cluster",
    "calls",
    "excite",
    "faults",
    "proxy",
    "peers",
)
GROUPS = {"near": NEAR}  # names for several
_RESULTS = Path(__file__).parent / "results"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        choices=(*NAMES, *GROUPS),
        help=", ".join((*NAMES, "near (all near.*)")),
    )
    parser.add_argument("--quick", action="store_true", help="less of everything; writes nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON document, not tables")
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="wait for a quiet machine, at most"
    )
    return parser.parse_args()


def main() -> int:
    """Run what was asked for; a goal that is missed is reported, not a failure."""
    arguments = _arguments()
    documents = []
    asked = arguments.only or NAMES
    for name in dict.fromkeys(name for given in asked for name in GROUPS.get(given, (given,))):
        machine.wait_until_quiet(arguments.wait)
        found: report.Report = importlib.import_module(f"bench.{name}").run(quick=arguments.quick)
        if not arguments.quick:
            found.write(_RESULTS)
        if arguments.json:
            documents.append(found.document())
        else:
            sys.stdout.write(found.markdown() + "\n")
            sys.stdout.flush()
    if not arguments.quick:
        (_RESULTS / "README.md").write_text(report.summary(_RESULTS), encoding="utf-8")
    if arguments.json:
        json.dump(documents, sys.stdout, indent=1, ensure_ascii=False, default=float)
        sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
