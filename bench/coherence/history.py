"""``python -m bench.coherence.history``: check the history of a cache on one real server.

Exit status 0: the contract held; 1: it did not (with ``--expect-failure``: the other way round).
"""

import argparse
import sys
from pathlib import Path

from bench.coherence.verdicts import PEERS
from bench.machine import log
from live.history import Findings, Plan, check
from live.history.faults import FAULTS
from live.history.groups import CLUSTER_FAULTS, SENTINEL_FAULTS
from live.history.unprotected import SWITCHES
from servers import KINDS

SERVERS = (
    *KINDS,
    "sqlite",
    *(f"{form}:{kind}" for form in ("cluster", "sentinel") for kind in KINDS),
)
EVERY_FAULT = sorted({*FAULTS, *CLUSTER_FAULTS, *SENTINEL_FAULTS})


def _arguments() -> argparse.Namespace:
    usual = Plan()
    parser = argparse.ArgumentParser(prog="python -m bench.coherence.history", description=__doc__)
    add = parser.add_argument
    add("--server", choices=SERVERS, default=usual.server)
    add("--cache", default=usual.cache, help=f"nearcache, none, naive, {', '.join(PEERS)}")
    add("--reads", type=int, default=4_000_000, help="go on until so many were checked")
    add("--cycles", type=int, default=8, help="storms at least, each with a comparison after it")
    add("--seconds", type=float, default=usual.seconds, help="how long a storm lasts")
    add("--minutes", type=float, default=60.0, help="begin no storm after that")
    add("--workers", type=int, default=usual.workers)
    add("--bound", type=float, default=usual.bound, help="link_timeout, T")
    add("--seed", type=int, default=0)
    add("--faults", nargs="+", choices=EVERY_FAULT, default=(), help="only these")
    add("--without", choices=SWITCHES, default="", help="switch a protection off")
    add("--expect-failure", action="store_true", help="succeed if something is found")
    add("--json", type=Path, help="write the findings there, too")
    add("--log", action="store_true", help="print what the nemesis did")
    return parser.parse_args()


def main() -> int:
    """Run what was asked for, print what was found."""
    arguments = _arguments()
    plan = Plan(
        server=arguments.server,
        cache=PEERS.get(arguments.cache, arguments.cache),
        reads=arguments.reads,
        cycles=arguments.cycles,
        seconds=arguments.seconds,
        workers=arguments.workers,
        bound=arguments.bound,
        most_seconds=60 * arguments.minutes,
        faults=arguments.faults,
        groups=arguments.cache == "nearcache",
        protection=arguments.without,
        seed=arguments.seed,
    )
    findings = check(plan, log)
    _print(findings, with_log=arguments.log)
    if arguments.json:
        arguments.json.write_text(findings.json() + "\n", encoding="utf-8")
    return int(bool(findings.wrong) != arguments.expect_failure)


def _print(findings: Findings, *, with_log: bool) -> None:
    if with_log:
        sys.stdout.write("\n".join(findings.log) + "\n")
    sys.stdout.write(findings.text() + "\n")


if __name__ == "__main__":
    sys.exit(main())
