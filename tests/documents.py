"""Reads headings, tables, fenced blocks and links of the documents, for tests."""

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
    """A fenced block with its document, first line, language and text."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def document(name: str) -> str:
    """Returns the text of a document. `name`: path from the root."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(language: str, *names: str) -> list[Block]:
    """Returns the fenced blocks of a language in all documents, or in those named by paths from the root."""
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
    """Returns the text without its fenced blocks."""
    return _FENCE.sub("", text)


def headings(text: str) -> list[str]:
    """Returns every heading, without its marks."""
    return [match[1] for line in prose(text).splitlines() if (match := _HEADING.fullmatch(line))]


def anchors(text: str) -> set[str]:
    """Returns the anchors of all headings, as code hosts build them."""
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings(text)}


def section(text: str, heading: str) -> str:
    """Returns the text between a heading and the next one. Raises AssertionError if there is no such heading."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", _masked(text), re.MULTILINE | re.DOTALL)
    assert found, f"no heading {heading!r}"
    return text[found.start(1) : found.end(1)]


def rows(text: str) -> list[list[str]]:
    """Returns the cells of the first table in a text, without its head."""
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
    """Returns the texts in backticks."""
    return _CODE.findall(cell)


def links(text: str) -> Iterator[str]:
    """Yields every target of a link that is not on another host."""
    return (link for link in _LINK.findall(prose(text)) if "://" not in link)


def _masked(text: str) -> str:
    """Blanks the fenced blocks, which may contain lines that look like headings. The length stays."""
    return _FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
