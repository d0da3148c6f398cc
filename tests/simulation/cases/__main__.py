"""``make simulate-cases``: plays of the real engine against a world and people that misbehave, one for each seed.

Prints each seed that fails with what was wrong, which kinds struck and how to play it again; ends with 1 when one did.
``--seed N --tell`` prints all that happens in one play.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time

from tests.simulation.cases.kinds import Kind
from tests.simulation.cases.many import outcomes
from tests.simulation.cases.play import Outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate-cases ARGS=...", description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=400, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--tell", action="store_true", help="print all that happens")
    parser.add_argument("--jobs", type=int, default=2, help="plays at a time")
    parser.add_argument("--without", action="append", default=[], choices=[kind.value for kind in Kind], metavar="KIND")
    parser.add_argument("--only", action="append", default=[], choices=[kind.value for kind in Kind], metavar="KIND")
    parser.add_argument(
        "--json", action="store_true", help="one JSON line for each seed that fails, and one at the end"
    )
    options = parser.parse_args()
    logging.disable(logging.ERROR)  # what the engine says of the misbehaviour; what is wrong, the checks say
    allowed = [kind for kind in Kind if kind.value not in options.without]
    if options.only:
        allowed = [kind for kind in allowed if kind.value in options.only]
    seeds = [options.seed] if options.seed is not None else list(range(options.first, options.first + options.seeds))
    began_s, failed, done = time.monotonic(), 0, 0
    for outcome in outcomes(seeds, allowed, min(options.jobs, len(seeds))):
        done += 1
        failed += bool(outcome.wrong)
        if outcome.wrong:
            _print_failed(outcome, options.json)
        if options.tell:
            print("\n".join(outcome.log))
        if not options.json and done % 100 == 0:
            print(f"{done} of {len(seeds)} played, {failed} failed, {time.monotonic() - began_s:.0f} s", flush=True)
    took_s = round(time.monotonic() - began_s, 1)
    if options.json:
        print(json.dumps({"plays": done, "failed": failed, "seconds": took_s}))
    else:
        print(f"{done} plays, {failed} failed, {took_s:g} s")
    return int(failed > 0)


def _print_failed(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        shown = {"seed": outcome.seed, "wrong": outcome.wrong, "kinds": outcome.kinds}
        print(json.dumps(shown), flush=True)
        return
    print(f"seed {outcome.seed} ({', '.join(outcome.kinds)}):")
    for wrong in outcome.wrong:
        print(f"  {wrong}")
    print(f'  again: make simulate-cases ARGS="--seed {outcome.seed} --tell"', flush=True)


if __name__ == "__main__":
    sys.exit(main())
