"""orchestrator-recovery.md taken apart: its code blocks and its sentences, from its own text.

What must stay true: nothing of the document is repeated here, so a test that runs a block runs what
stands there. A text that looks otherwise than it is read here is refused, not guessed at.
"""

import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent
DOCUMENT = FOLDER / "orchestrator-recovery.md"
ERRATA = FOLDER / "ERRATA.md"
FENCE = "```"

# Erratum 1: `. as $s |` in front, and `$s.status[$n]` for `.status[$n]`; nothing else is changed.
ERRATUM_1 = ((".issues | map", ". as $s | .issues | map"), (".status[$n]", "$s.status[$n]"))

_SENTENCE_END = re.compile(r"(?<=[.])\s+(?=[A-Z])")
_RULE_OF_TABLE = re.compile(r"\|[-| ]+\|\Z")


class Block(NamedTuple):
    """A fenced code block: `Entry 1` is the first under the heading `Entry`."""

    name: str
    language: str
    text: str


def parts() -> tuple[list[Block], list[str]]:
    """The code blocks in order, and the sentences outside of them in order.

    A row of a table is one sentence, `first cell: second cell`; its heading is none.
    """
    blocks: list[Block] = []
    sentences: list[str] = []
    heading, count = "", 0
    paragraph: list[str] = []
    lines = iter(DOCUMENT.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(FENCE):
            count += 1
            inside = []
            while (each := next(lines)) != FENCE:
                inside.append(each)
            blocks.append(Block(f"{heading} {count}", line.removeprefix(FENCE), "\n".join(inside)))
        elif line.startswith("#"):
            heading, count = line.lstrip("#").strip().split(". ", 1)[-1], 0
        elif line.startswith("|"):
            if _RULE_OF_TABLE.match(line):
                sentences.pop()  # what stands above the rule is the table's head
            else:
                sentences.append(": ".join(cell.strip() for cell in line.strip("|").split("|")))
        elif line.strip():
            paragraph.append(line.strip())
            continue
        if paragraph:
            sentences += _SENTENCE_END.split(" ".join(paragraph))
            paragraph = []
    assert not paragraph, "the document ends within a paragraph"
    return blocks, sentences


def block(name: str) -> str:
    """The text of the block of this name, as it stands."""
    (found,) = [each.text for each in parts()[0] if each.name == name]
    return found


def replaced(text: str, old: str, new: str) -> str:
    """The text with its one occurrence of `old` replaced; anything else is an error."""
    assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times:\n{text}"
    return text.replace(old, new)


def runnable(name: str, area: str) -> str:
    """The block as a shell can run it: `{area}` filled in and erratum 1 heeded, nothing else."""
    text = block(name)
    if name == "Entry 1":
        return replaced(text, "{area}", area)
    if name == "Resume Poll Cycle 1":
        for old, new in ERRATUM_1:
            text = replaced(text, old, new)
    return text


def errata() -> dict[int, tuple[str, str, str]]:
    """Number -> place, fault, what Gangline does instead."""
    found = {}
    for line in ERRATA.read_text(encoding="utf-8").splitlines():
        if re.match(r"\| [0-9]", line):
            # A pipe inside of a cell is written `\|`.
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            found[int(cells[0])] = (cells[1], cells[2], cells[3])
    return found
