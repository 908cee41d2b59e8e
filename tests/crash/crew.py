"""A project whose agents are shell scripts that write down what they do, outside Gangline's reach.

The ledger is the witness of every claim in these tests: a line when an agent starts, a line when it
ends, each with its issue, attempt, process and the processes of earlier attempts that still lived.
"""

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from project import Project, Started

# An agent runs until `let-ISSUE` exists, or for the seconds in DURATION. It leaves a process in a
# session of its own, as careless agents do. `before` counts living processes of earlier attempts.
_AGENT = r"""
ledger=$1; room=$2; seconds=$3
attempt=${GANGLINE_ATTEMPT##*-a}
before=0
n=0
while [ "$n" -lt "$attempt" ]; do
  old="GANGLINE_ATTEMPT=${GANGLINE_ATTEMPT%-a*}-a$n"
  for file in /proc/[0-9]*/environ; do
    if tr '\0' '\n' 2>/dev/null <"$file" | grep -qxF "$old"; then before=$((before + 1)); fi
  done
  n=$((n + 1))
done
echo "start $GANGLINE_ISSUE $attempt $$ $before $GANGLINE_RETRY" >>"$ledger"
echo "agent of $GANGLINE_ISSUE works"
if [ "$seconds" = wait ]; then
  setsid sleep 3600 >/dev/null 2>&1 &
  while [ ! -e "$room/let-$GANGLINE_ISSUE" ]; do sleep 0.05; done
else
  sleep "$seconds"
fi
echo "end $GANGLINE_ISSUE $attempt $$ 0 $GANGLINE_RETRY" >>"$ledger"
code=$(cat "$room/code-$GANGLINE_ISSUE" 2>/dev/null || echo 0)
exit "$code"
"""


class Line(NamedTuple):
    """One line of the ledger, in the order of writing."""

    what: str
    issue: str
    attempt: int
    pid: int
    before: int
    retry: int


class Crew(Project):
    """A project with an agent script and its ledger."""

    def __init__(self, room: Path, *, name: str = "project") -> None:
        super().__init__(room, name=name)
        self.ledger_path = room / "ledger"
        self.ledger_path.touch()
        self.agent = room / "agent.sh"
        self.agent.write_text(_AGENT)

    def issue(
        self, number: int, *, after: Iterable[int] = (), seconds: str = "wait"
    ) -> dict[str, Any]:
        """An issue of a plan file, done by the script."""
        argv = ["sh", str(self.agent), str(self.ledger_path), str(self.room), seconds]
        return {
            "id": number,
            "title": f"issue {number}",
            "depends_on": sorted(after),
            "run": argv,
        }

    def ledger(self) -> list[Line]:
        lines = []
        for text in self.ledger_path.read_text().splitlines():
            what, issue, attempt, pid, before, retry = text.split()
            lines.append(Line(what, issue, int(attempt), int(pid), int(before), int(retry)))
        return lines

    def starts(self, issue: int | None = None) -> list[Line]:
        return [
            line
            for line in self.ledger()
            if line.what == "start" and issue in (None, int(line.issue))
        ]

    def let(self, *numbers: int, code: int = 0) -> None:
        """Let these agents end."""
        for number in numbers:
            if code:
                (self.room / f"code-{number}").write_text(str(code))
            (self.room / f"let-{number}").touch()

    def begin(self, issues: list[dict[str, Any]], width: int) -> Started:
        """Commit what there is and start an orchestrator on a new batch."""
        self.plan(issues)
        self.commit()
        return self.start("run", "work", "--from", "plan.json", "--max-concurrent", str(width))

    def resume(self) -> Started:
        return self.start("run", "work")

    def kill_orchestrator(self, orchestrator: Started) -> None:
        """Kill -9 the orchestrator alone."""
        os.kill(orchestrator.pid, signal.SIGKILL)
        orchestrator.wait()

    def wait_for_starts(self, count: int) -> None:
        self.wait_for(lambda: len(self.starts()) >= count, f"{count} agents have started")

    def wait_for_end(self, orchestrator: Started) -> int:
        self.wait_for(lambda: orchestrator.poll() is not None, "the orchestrator has ended")
        return orchestrator.returncode

    def attempt_of(self, number: int) -> dict[str, Any]:
        """The newest attempt of an issue, as `status --json` tells it."""
        issue = next(i for i in self.status()["issues"] if i["id"] == number)
        return issue["attempts"][-1]

    def issue_view(self, number: int) -> dict[str, Any]:
        return next(i for i in self.status()["issues"] if i["id"] == number)

    def runner_pid(self, number: int) -> int:
        """The process that claimed the newest attempt of an issue."""
        import json

        folder = self.area() / "attempts" / self.attempt_of(number)["id"]
        return json.loads((folder / "claim").read_text())["pid"]

    def agent_pid(self, number: int) -> int:
        return self.starts(number)[-1].pid

    def pane(self, number: int) -> str:
        """The pane of an issue, once tmux has told it and it is recorded."""
        return self.wait_for(lambda: self.attempt_of(number)["pane"], f"the pane of #{number}")
