"""The documentation as data: its files, fenced blocks, and tables of settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", ROOT / "deploy" / "README.md",
                ROOT / "requirements" / "README.md", *DOCS.glob("*.md")])  # fmt: skip
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block; ``before`` is the last line of prose above it."""

    page: str
    language: str
    text: str
    before: str


def page(name: str) -> str:
    """The text of a page of docs/."""
    return (DOCS / name).read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        above = text[: match.start()].rstrip().rsplit("\n", 1)[-1]
        found.append(Block(name_of(path), match[1], match[2], above))
    return found


def without_blocks(text: str) -> str:
    return _FENCE.sub("", text)


def section(text: str, heading: str) -> str:
    """From a heading (with its #s) to the next of its level or above. Raises AssertionError when it is not there."""
    level = len(heading) - len(heading.lstrip("#"))
    start = re.search(rf"^{re.escape(heading)}(?=[\s,]|$)", text, re.MULTILINE)
    assert start, f"there is no section {heading!r}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{level}}} ", without_comments(rest), re.MULTILINE)
    return rest[: end.start()] if end else rest


def own_part(text: str) -> str:
    """A section without its subsections."""
    return re.split(r"^#+ ", without_comments(text), maxsplit=1, flags=re.MULTILINE)[0]


def without_comments(text: str) -> str:
    """Fenced blocks blanked out line by line, so that # in them is no heading; positions stay."""
    return _FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def rows(text: str) -> list[str]:
    """The names that begin the rows of the tables in a text."""
    return _ROW.findall(text)
