"""The agents' own log as a witness: what ran, how often, and what it proves.

Gangline promises that nothing is lost and nothing runs twice; its own records could not show that
they are wrong. This log is written by the agents alone (demo/agent.py), outside the repository, one
appended line when an agent begins and one when it has done its work.
"""

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple


class Line(NamedTuple):
    """One line: `start` or `end`, the issue's id, the agent's process."""

    word: str
    issue: str
    pid: int


class Ledger:
    """The lines of the log, in the order they were appended.

    Args:
        lines: Of the form `WORD ISSUE PID`.
    """

    def __init__(self, lines: Collection[Line] = ()) -> None:
        self.lines = tuple(lines)

    @classmethod
    def read(cls, path: str) -> "Ledger":
        """What is there now; nothing while no agent has begun."""
        try:
            with open(path, encoding="ascii") as file:
                text = file.read()
        except FileNotFoundError:
            return cls()
        rows = [row.split() for row in text.splitlines()]
        return cls([Line(word, issue, int(pid)) for word, issue, pid in rows])

    def running(self) -> dict[str, int]:
        """The agents that began and have not ended: issue -> process."""
        begun = {line.issue: line.pid for line in self.lines if line.word == "start"}
        return {issue: pid for issue, pid in begun.items() if ("end", issue, pid) not in self.lines}

    def ended(self) -> set[str]:
        """The issues whose agent has done its work."""
        return {line.issue for line in self.lines if line.word == "end"}

    def count(self, word: str) -> int:
        """How many lines are `start`, or `end`."""
        return sum(line.word == word for line in self.lines)

    def faults(self, issues: Collection[str]) -> list[str]:
        """All that speaks against `each issue ran exactly once, to its end`; empty if nothing.

        Args:
            issues: The ids that were to run.
        """
        starts = Counter(line.issue for line in self.lines if line.word == "start")
        ends = Counter(line.issue for line in self.lines if line.word == "end")
        found = []
        for issue in sorted({*issues, *starts, *ends}):
            if issue not in issues:
                found.append(f"#{issue} ran and is no issue")
            elif starts[issue] != 1:
                found.append(f"#{issue} was started {starts[issue]} times")
            elif ends[issue] != 1:
                found.append(f"#{issue} was started once and ended {ends[issue]} times")
            elif issue in self.running():
                found.append(f"#{issue} was ended by another process than began it")
        return found
