"""``make mutate``: how many small faults in a core do its tests notice?

Prints the survivors, each with its place and change, and the share killed; ends with 1 below ``--floor``, 2 when
nothing could be measured. The sample depends on ``--seed`` alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from tests.mutation.cores import CORES
from tests.mutation.measuring import measure_apart
from tests.mutation.runner import CannotMeasure


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__)
    parser.add_argument(
        "--module", action="append", choices=sorted(CORES), help="a core; again for more (default: all)"
    )
    parser.add_argument("--sample", type=int, default=150, help="how many mutants of a core, 0 for all")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time")
    parser.add_argument("--floor", type=float, default=0.9, help="the share to be killed")
    parser.add_argument("--json", action="store_true", help="one JSON line for each core")
    options = parser.parse_args()
    below = False
    for core in options.module or CORES:
        try:
            report = measure_apart(core, options.sample, options.seed, options.jobs, aloud=not options.json)
        except CannotMeasure as error:
            print(f"{core}: {error}", file=sys.stderr)
            return 2
        below |= report.share < options.floor
        if options.json:
            print(json.dumps({**asdict(report), "share": round(report.share, 4)}), flush=True)
        else:
            print(report.line(), flush=True)
    return int(below)


if __name__ == "__main__":
    sys.exit(main())
