"""docs/specification.md is whole and true: every sentence is in it, and all it names exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from document import errata, parts

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "specification.md").read_text(encoding="utf-8")
BLOCKS, SENTENCES = parts()
TEST = re.compile(r"`([a-z_/]+\.py)::(\w+)`")
CODE = re.compile(r"`([a-z_/]+\.py): (\w+)`")


def rows(heading: str) -> dict[str, list[str]]:
    """The cells of the table under a heading, by the first of each row; its head left out."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({row[0] for row in cells}) == len(cells), "a row is there twice"
    return {row[0]: row[1:] for row in cells}


@cache
def defined(path: Path) -> frozenset[str]:
    """The functions and classes of a module, methods included."""
    kinds = ast.FunctionDef | ast.ClassDef
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def test_every_code_block_has_its_row():
    assert list(rows("Code blocks")) == [block.name for block in BLOCKS]


def test_every_sentence_has_its_row():
    assert list(rows("Sentences")) == SENTENCES


def test_every_erratum_has_its_row():
    assert list(rows("Errata")) == [str(number) for number in errata()]


@pytest.mark.parametrize("heading", ["Code blocks", "Sentences", "Errata"])
def test_every_row_names_code_and_a_test(heading: str):
    for name, cells in rows(heading).items():
        assert CODE.search(cells[-2]), name
        assert TEST.search(cells[-1]), name


def test_every_named_test_exists():
    for path, name in TEST.findall(TEXT):
        assert name.startswith("test_")
        assert name in defined(ROOT / "tests" / path), f"{path}::{name}"


def test_every_named_piece_of_code_exists():
    for path, name in CODE.findall(TEXT):
        assert name in defined(ROOT / "src" / "gangline" / path), f"{path}: {name}"


def test_every_test_of_a_sentence_is_named():
    here = Path(__file__).parent / "test_sentences.py"
    tests = {name for name in defined(here) if name.startswith("test_")}
    assert tests <= {name for _, name in TEST.findall(TEXT)}
