"""``edge-agent``: run, detect, explain, maintenance, doctor, enrol.

An error that was foreseen is one line with its remedy, and exit code 2. Any other error has its traceback on standard
error, and exit code 1; ``run`` writes it to its log. A command imports only what it needs, so ``run`` stays small.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from fleet_core import __version__
from fleet_core.clock import clock_from_environment
from fleet_core.errors import BadConfig, ForestallError

log = logging.getLogger(__name__)

DETECT, EXPLAIN, MAINTENANCE = "detect", "explain", "maintenance"
HEAVY = (DETECT, EXPLAIN, MAINTENANCE)
"""Commands whose arguments import numpy. The other commands start faster without them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code.

    0: done; 1: a check failed, or a running agent ended by an error that may pass or that nobody foresaw (standard
    error says which); 2: the command could not be carried out, a wrong setting among others.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        parsed = _parser(arguments[:1]).parse_args(arguments)
        act: Callable[[argparse.Namespace], int] = parsed.act
        return act(parsed)
    except ForestallError as error:
        print(f"edge-agent: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:  # a folder that may not be written, a full disk, a port that is taken
        print(f"edge-agent: {error.filename or ''} {error.strerror or error}".replace("  ", " "), file=sys.stderr)
        return 2


def _parser(heavy: Sequence[str] = HEAVY) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-agent", description="Watches machines and reports what will fail.")
    parser.add_argument("--version", action="version", version=f"forestall {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="run the agent until it is told to stop")
    _add_config(run)
    run.set_defaults(act=_run)

    detect = commands.add_parser(DETECT, help="run detection over a recorded file")
    explain = commands.add_parser(EXPLAIN, help="say and draw what was seen, in a recording or by the running agent")
    maintenance = commands.add_parser(MAINTENANCE, help="declare that a machine is worked on: not judged, not learnt")
    if DETECT in heavy:
        from edge_agent.recorded import offline

        offline.add_arguments(detect)
    if EXPLAIN in heavy:
        from edge_agent.explain import cli

        cli.add_arguments(explain)
    if MAINTENANCE in heavy:
        from edge_agent import maintenance as declaring

        declaring.add_arguments(maintenance)
    detect.set_defaults(act=_detect)
    explain.set_defaults(act=_explain)
    maintenance.set_defaults(act=_maintenance)

    doctor = commands.add_parser("doctor", help="check this device and say what to mend")
    _add_config(doctor)
    doctor.add_argument("--json", action="store_true", help="print one JSON document")
    doctor.set_defaults(act=_doctor)

    enrol = commands.add_parser("enrol", help="exchange a claim for this device's certificate")
    enrol.add_argument("--url", required=True, help="the enrolment service, https://HOST:PORT")
    enrol.add_argument("--claim", required=True, help="the claim code, or @FILE that holds it, or - for standard input")
    enrol.add_argument("--fingerprint", required=True, help="SHA-256 of the authority's certificate")
    enrol.add_argument("--bundle", required=True, type=Path, help="folder for the identity")
    enrol.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS")
    enrol.add_argument("--json", action="store_true", help="print one JSON document")
    enrol.set_defaults(act=_enrol)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="agent.toml")


def _run(arguments: argparse.Namespace) -> int:
    from edge_agent.agent import run_agent
    from edge_agent.config import load_config
    from fleet_core.service import EXIT_FAILED, in_one_line

    config = load_config(arguments.config)
    logging.basicConfig(
        level=config.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        run_agent(config, clock_from_environment())
    except BadConfig:
        raise
    except ForestallError as error:  # a full disk, say, passes: the service manager starts the agent again
        log.error("%s", error)
        return EXIT_FAILED
    except Exception as error:
        log.critical("the agent ends by an error nobody foresaw: %s", in_one_line(error), exc_info=error)
        return EXIT_FAILED
    return 0


def _detect(arguments: argparse.Namespace) -> int:
    from edge_agent.recorded.offline import main_detect

    code: int | None = main_detect(arguments)
    return code or 0


def _explain(arguments: argparse.Namespace) -> int:
    from edge_agent.explain.cli import main_explain

    return main_explain(arguments)


def _maintenance(arguments: argparse.Namespace) -> int:
    from edge_agent.maintenance import main_maintenance

    return main_maintenance(arguments)


def _doctor(arguments: argparse.Namespace) -> int:
    from edge_agent.config import load_config
    from edge_agent.doctor import Check, Verdict, examine

    try:
        checks = examine(load_config(arguments.config))
    except BadConfig as error:
        checks = [Check("config", Verdict.FAIL, str(error), "mend the file and run doctor again")]
    fit = all(check.verdict is not Verdict.FAIL for check in checks)
    if arguments.json:
        print(json.dumps({"fit": fit, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        for check in checks:
            mend = f" -> {check.mend}" if check.mend else ""
            print(f"{check.verdict:4}  {check.name}: {check.message}{mend}")
    return 0 if fit else 1


def _enrol(arguments: argparse.Namespace) -> int:
    from provisioning.device import enrol

    bundle = enrol(arguments.url, _claim(arguments.claim), arguments.bundle, arguments.fingerprint, arguments.timeout)
    if arguments.json:
        print(json.dumps({key: str(value) for key, value in asdict(bundle).items()}, indent=1))
    else:
        print(f'enrolled as {bundle.node_id} of {bundle.group_id}; put  bundle = "{arguments.bundle}"  under [uplink]')
    return 0


def _claim(text: str) -> str:
    if text == "-":
        return sys.stdin.readline(4096).strip()
    if not text.startswith("@"):
        return text
    try:
        with Path(text[1:]).open() as file:
            return file.readline(4096).strip()
    except OSError as error:
        raise BadConfig(f"the claim cannot be read from {text[1:]}: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
