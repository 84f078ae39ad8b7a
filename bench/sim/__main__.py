"""``python -m bench.sim [TRACE...]``: play traces, print the table, write JSON and a figure."""

import argparse
import sys
from pathlib import Path

from bench.sim import report_of
from bench.sim.grid import PERCENT, play
from bench.sim.players import others, policies
from bench.sim.traces import MADE_UP, MOST, found


def main() -> int:
    """Play what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.sim", description=__doc__)
    parser.add_argument(
        "traces", nargs="*", metavar="TRACE", help=f"a file, or one of {', '.join(MADE_UP)}"
    )
    parser.add_argument("--policies", nargs="+", choices=policies(), default=policies())
    parser.add_argument("--percent", nargs="+", type=float, default=PERCENT, help="of all keys")
    parser.add_argument("--requests", type=int, default=MOST, help="of each trace, at most")
    parser.add_argument("--only-ours", action="store_true", help="without libCacheSim's policies")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write hit_ratios.json and .png")
    given = parser.parse_args()
    names = given.traces or found()
    missing = [name for name in names if name not in MADE_UP and not Path(name).is_file()]
    if missing:
        parser.error(f"no such trace: {', '.join(missing)}")
    players = [*given.policies, *([] if given.only_ours else others())]
    grid = play(names, players, given.percent, given.requests)
    sys.stdout.write(report_of(grid, names).markdown())
    if given.out:
        grid.write(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
