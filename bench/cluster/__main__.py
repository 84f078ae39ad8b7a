"""``python -m bench.cluster PART…``: some parts of the benchmark, printed and not kept."""

import argparse
import sys

from bench.cluster import PARTS, run


def main() -> None:
    """Measure the parts that were named, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="less of everything")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    report = run(quick=arguments.quick, parts=arguments.parts or PARTS)
    sys.stdout.write(report.markdown())


if __name__ == "__main__":
    main()
