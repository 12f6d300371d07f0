"""The documents as tests read them: headings, tables, fenced blocks, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
DOCUMENTS = tuple(
    sorted(
        [
            *ROOT.glob("*.md"),
            *ROOT.glob("benchmarks/*.md"),
            *ROOT.glob("docs/*.md"),
            *ROOT.glob("docs/*/*.md"),
        ]
    )
)

_HEADING = re.compile(r"#+ (.*)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")


class Block(NamedTuple):
    """A fenced block: where it begins, its language, its text."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def document(name: str) -> str:
    """The text of a document, named from the root."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(language: str, *names: str) -> list[Block]:
    """The fenced blocks of a language, of all documents or of those named from the root."""
    found: list[Block] = []
    for path in [ROOT / name for name in names] or DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        found += [
            Block(path, text.count("\n", 0, match.start()) + 2, language, match[2])
            for match in _FENCE.finditer(text)
            if match[1] == language
        ]
    return found


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return _FENCE.sub("", text)


def headings(text: str) -> list[str]:
    """Every heading, without its marks."""
    return [match[1] for line in prose(text).splitlines() if (match := _HEADING.fullmatch(line))]


def anchors(text: str) -> set[str]:
    """The headings as links name them, as code hosts do."""
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings(text)}


def section(text: str, heading: str) -> str:
    """What stands between a heading and the next one. Raises AssertionError if there is none."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", _masked(text), re.MULTILINE | re.DOTALL)
    assert found, f"no heading {heading!r}"
    return text[found.start(1) : found.end(1)]


def rows(text: str) -> list[list[str]]:
    """The cells of the first table in a text, without its head."""
    lines = iter(prose(text).splitlines())
    table: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            table.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif table:
            break
    assert len(table) > 2, "no table"
    return table[2:]


def codes(cell: str) -> list[str]:
    """What a cell holds in backticks."""
    return _CODE.findall(cell)


def links(text: str) -> Iterator[str]:
    """Every target of a link that is not on another host."""
    return (link for link in _LINK.findall(prose(text)) if "://" not in link)


def _masked(text: str) -> str:
    """The text with the same length, its fenced blocks blank: they may hold lines that look like headings."""
    return _FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
