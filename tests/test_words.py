"""The language of the project: docstrings, comments and pages that a reader takes in at first sight."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = ("archiver", "benchmarks", "heliograph", "producers", "router", "schemas", "sinks", "tests")
PAGES = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "benchmarks/*.md", "deploy/**/*.md")

QUESTION = re.compile(r"(What|Whether|Who|Whom|Whose|Why|How|Where|When)\b")
"""A docstring that begins so asks where it should tell."""
ARCHAIC = re.compile(
    r"\b(anew|heeds?|heeded|whom|thereof|wherein|whereupon|put(s|ting)? off|lets? go of|told of|in vain)\b",
    re.IGNORECASE,
)


def files() -> Iterator[Path]:
    for room in CODE:
        yield from sorted((ROOT / room).rglob("*.py"))


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the line and the text of each docstring, those of attributes included."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text
            case _:
                pass


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the line and the text of each docstring and comment."""
    yield from docstrings(path)
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_a_docstring_begins_with_a_verb_or_names_the_thing() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path in files()
        for line, text in docstrings(path)
        if QUESTION.match(text)
    ]
    assert not found, "\n".join(found)


def test_docstrings_and_comments_use_current_english() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {match[0]}"
        for path in files()
        if path != Path(__file__) and ARCHAIC.search(path.read_text())
        for line, text in prose(path)
        for match in ARCHAIC.finditer(text)
    ]
    assert not found, "\n".join(found)


def test_pages_use_current_english() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for page in PAGES
        for path in ROOT.glob(page)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in ARCHAIC.finditer(line)
    ]
    assert not found, "\n".join(found)
