"""``edge-agent explain``: one sentence and one picture about a finding, in a recording or of a live agent."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edge_agent.explain import words
from edge_agent.explain.case import Case
from edge_agent.explain.picture import check_out, draw
from edge_agent.recorded.options import add_recording_arguments, spare
from fleet_core.errors import BadConfig, Permanent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``edge-agent explain``."""
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a recording: delimited text or .npz")
    parser.add_argument("--config", type=Path, metavar="TOML", help="explain the live agent of this agent.toml")
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="explain the live agent with this state folder")
    parser.add_argument("--component", default="", metavar="C", help="slot, device or device/slot of a live agent")
    parser.add_argument("--finding", default="", metavar="N|ID", help="which finding (default: the first)")
    parser.add_argument("--out", type=Path, metavar="PICTURE", help="draw it: a name ending in .svg or .png")
    parser.add_argument("--json", action="store_true", help="print the explanation as JSON on standard output")
    add_recording_arguments(parser)


def main_explain(args: argparse.Namespace) -> int:
    """Run the command. Returns 0, or 2 with one line on standard error when input, settings or libraries are wrong."""
    try:
        case = _case(args)
        if args.out is not None:
            draw(case, args.out)
    except Permanent as error:
        print(f"edge-agent explain: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"edge-agent explain: {error.filename or args.out}: {error.strerror}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({**words.as_json(case), "picture": str(args.out) if args.out else None}, indent=1))
    else:
        print("\n".join(words.told(case)))
        if args.out is not None:
            print(f"the picture is {args.out}", file=sys.stderr)
    return 0


def _case(args: argparse.Namespace) -> Case:
    live = args.config is not None or args.state_dir is not None
    if (args.file is None) != live or (args.config is not None and args.state_dir is not None):
        raise BadConfig("name one thing to explain: a recording's FILE, or --config, or --state-dir")
    if args.out is not None:
        check_out(args.out)
        spare(args.out, args.file, args.settings, args.config)
    if live:
        from edge_agent.explain.live import case_of as live_case

        return live_case(args)
    if args.component:
        raise BadConfig("--component goes with --config or --state-dir: a recording is one component")
    from edge_agent.explain.recording import case_of

    return case_of(args)
