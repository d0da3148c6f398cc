"""Links, anchors, images and the files that prose names exist; nothing names a place it must not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.documents import PAGES, ROOT, name_of, without_blocks

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:[\w.-]+/)+[\w.-]*\.(?:py|md|toml|sql|service|path|conf|sh|gz|lock)|(?:[a-z_]+/)+)`")
ELSEWHERE = re.compile(r"^(?:ims|femto|skab|broker|systemd|issued)/|^parts/|^field_service/")
"""Folders of recordings, and names that a page gives relative to its own folder."""
EXAMPLES = ("text_file.py", "peak.py", "belt.py", "journal.py", "site_calendar.py")
FORBIDDEN = re.compile(r"(?:^|[\s`(\"'])/(?:work|root|tmp/brief)\b|pypi\.org|\bissue #\d|localhost:\d{4}/simple", re.I)
PATHS = pytest.mark.parametrize("path", PAGES, ids=name_of)


def anchors(path: Path) -> set[str]:
    """As a forge makes them: lower case, spaces to hyphens, punctuation gone."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@PATHS
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(without_blocks(path.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{name_of(path)}: {target}"
        assert not anchor or anchor in anchors(there), f"{name_of(path)}: {target}; there are {sorted(anchors(there))}"


@PATHS
def test_files_named_in_prose_exist(path: Path) -> None:
    for name in FILE.findall(without_blocks(path.read_text(encoding="utf-8"))):
        if not ELSEWHERE.match(name) and not name.endswith(EXAMPLES):
            assert (ROOT / name).exists(), f"{name_of(path)} names {name}"


@PATHS
def test_nothing_names_the_place_it_was_written_at(path: Path) -> None:
    found = FORBIDDEN.search(path.read_text(encoding="utf-8"))
    assert found is None, f"{name_of(path)}: {found and found[0]!r}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        path = left.pop()
        if path in reached or path.suffix != ".md":
            continue
        reached.add(path)
        targets = (target.partition("#")[0] for target in LINK.findall(path.read_text(encoding="utf-8")))
        left += [(path.parent / target).resolve() for target in targets if target and "://" not in target]
    assert {name_of(path) for path in PAGES} - {name_of(path) for path in reached} == {"requirements/README.md"}


def test_every_image_is_used() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert [image.name for image in (ROOT / "docs" / "images").iterdir() if image.name not in text] == []
