"""Every command in the docs exists, with every option it is given; nothing is run."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from support.documents import PAGES, ROOT, blocks, name_of, without_blocks

import demo.run
from edge_agent import cli as edge
from firmware_bridge import cli as bridge
from fleet_server import cli as server
from models import cli as models
from provisioning import cli as provision

PROGRAMS = ("edge-agent", "firmware-bridge", "fleet-models", "fleet-provision", "fleet-server", "make", "python")
SHELL = ("sh", "console", "bash", "")
INLINE = re.compile(r"`((?:edge-agent|firmware-bridge|fleet-\w+|make|python -m) [^`]+)`")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def commands_of(path: Path) -> list[list[str]]:
    """The commands of a page as words, continuation lines joined, comments and what runs before them removed."""
    text = "".join(block.text for block in blocks(path) if block.language in SHELL)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    lines += [found for found in INLINE.findall(without_blocks(path.read_text(encoding="utf-8"))) if "..." not in found]
    return [words for line in lines if (words := command_in(line))]


def command_in(line: str) -> list[str] | None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return None
    for index, word in enumerate(words):
        name = word.rsplit("/", 1)[-1]
        program = "python" if name == "python3" else name
        if program in PROGRAMS:
            later = words[index + 1 :]
            cut = next((at for at, one in enumerate(later) if one in ("|", ">", "&&", ";", "&")), len(later))
            alone = index == 0 or words[index - 1] in ("--", "|", "sudo", "exec") or program != "python"
            return [program, *later[:cut]] if alone else None
    return None


CASES = [(name_of(path), words) for path in PAGES for words in commands_of(path)]


@pytest.mark.parametrize(("where", "words"), CASES, ids=[f"{where}:{' '.join(words)[:60]}" for where, words in CASES])
def test_the_command_exists(where: str, words: list[str]) -> None:
    program, *rest = words
    if program == "make":
        check_make(rest)
    elif program == "python":
        check_python(rest)
    elif program in ("edge-agent", "firmware-bridge"):
        parser = edge._parser() if program == "edge-agent" else bridge._parser()
        check_argparse(parser, rest)
    else:
        check_click(program, rest)


def test_there_are_commands_to_check() -> None:
    assert len(CASES) > 60
    assert {words[0] for _, words in CASES} == set(PROGRAMS)


def check_make(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    targets |= {f"bench-{path.stem.removeprefix('bench_')}" for path in (ROOT / "benchmarks").glob("bench_*.py")}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator:
            assert name in targets, f"make has no target {name}"
            continue
        assert name in ("ARGS", "SUITES"), f"make takes no variable {name}"
        for path in value.split() if name == "SUITES" else ():
            assert (ROOT / path).exists(), path
        if name == "ARGS" and "demo" in words:
            demo.run._arguments([one for one in value.split() if one != "recordings" and one != "--data"])


def check_python(words: list[str]) -> None:
    if words[:1] == ["-m"] and words[1] not in ("pip", "venv"):
        assert importlib.util.find_spec(words[1]), f"there is no module {words[1]}"


def check_argparse(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """Options exist, what is required is there, positions are as many as taken."""
    while words and (sub := next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)):
        if words[0].startswith("-"):
            break
        assert words[0] in sub.choices, f"no command {words[0]}; there are {', '.join(sub.choices)}"
        parser, words = sub.choices[words[0]], words[1:]
    options = {text: action for action in parser._actions for text in action.option_strings}
    given = [word.partition("=")[0] for word in words if word.startswith("-") and word != "-"]
    assert [name for name in given if name not in options] == []
    if given:  # a command named in prose may leave its options out, one that shows some must be complete
        missing = [action.dest for action in parser._actions if action.required and action.option_strings
                   and not set(action.option_strings) & set(given)]  # fmt: skip
        assert missing == []


def check_click(program: str, words: list[str]) -> None:
    command: Any = typer.main.get_command({"fleet-server": server, "fleet-provision": provision,
                                           "fleet-models": models}[program].app)  # fmt: skip
    if program == "fleet-server" and words and words[0] in server.ELSEWHERE:
        module, attribute, _ = server.ELSEWHERE[words[0]]
        command, words = typer.main.get_command(getattr(importlib.import_module(module), attribute)), words[1:]
    while hasattr(command, "commands") and words:
        assert words[0] in command.commands, f"no command {words[0]}; there are {', '.join(command.commands)}"
        command, words = command.commands[words[0]], words[1:]
    options = {text for option in command.params for text in option.opts if text.startswith("-")} | {"--help"}
    given = [word.partition("=")[0] for word in words if word.startswith("-") and word != "-"]
    assert [name for name in given if name not in options] == []
