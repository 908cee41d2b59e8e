"""A team that works with the specification's shell: its panes, its scripts, its agents, its crash.

One tmux session holds the orchestrator's pane and idle panes with bash in them. Scripts run in a
new window of that session, as the one process of their pane, so `kill -9` of that process group is
a crash of the orchestrator and of nothing else. `sleep` is a function there: it waits until every
attempt that was begun has ended, so a poll loop goes on exactly when there is something to find,
and it says so where the loop goes on with nothing open, or counts what is open wrongly.
"""

import json
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crew import Crew

from gangline.hosts.processes import stat_fields
from gangline.hosts.shells import waits_by_proc

AREA = "work"
SHELLS = {
    "bash": ["bash", "--norc"],
    # zsh does not split what is not quoted (`for ISSUE in $DISPATCHED`); as a POSIX shell it does.
    "zsh": ["zsh", "--emulate", "sh", "-o", "no_rcs"],
}
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

_SETTINGS = """\
[batch]
max_concurrent = 4
{batch}
[agents.worker]
start = {start}
prompt = "file"
[workspace]
kind = "{workspace}"
"""
# Notes each call, then is the program.
_GANGLINE = """\
line=
for word in "$@"; do line="$line<$word>"; done
printf '%s\\n' "$line" >>{calls}
exec {python} -m gangline "$@"
"""
# What a document's script can rely on, and the steps of the test around its blocks. A nap gives up
# after so many looks as no success needs.
_PRELUDE = """\
exec >{room}/{name}.out 2>{room}/{name}.err
trap 'echo "$?" >{room}/{name}.code' EXIT
AREA={area}; AREA_DIR={area}
looks=0
naps=0
sleep() {{
    naps=$((naps + 1))
    [ "$naps" -le 12 ] || {{ echo "the loop gets nowhere"; exit 94; }}
    open=$(jq '[.status[] | select(. == "pending" or . == "dispatched" or . == "blocked")]
        | length' .workspace/orchestrate/{area}/batch.state.json) || exit 95
    [ "$open" -gt 0 ] || {{ echo "the loop goes on with nothing open"; exit 96; }}
    [ "${{ALL_DONE:-}}" = "$open" ] || {{ echo "$ALL_DONE are said open, not $open"; exit 97; }}
    for attempt in .workspace/orchestrate/{area}/attempts/*; do
        if [ ! -e "$attempt" ] || [ -e {room}/gone-"${{attempt##*/}}" ]; then continue; fi
        until [ -e "$attempt/exit.json" ]; do
            looks=$((looks + 1))
            [ "$looks" -lt 3000 ] || {{ echo "this takes too long"; exit 98; }}
            command sleep 0.02
        done
        flock --shared "$attempt/lock" true  # its runner has let go
    done
}}
block() {{ echo "== $1"; echo "== $1" >&2; }}
after() {{
    echo "$2" >{room}/{name}.code-"$1"
    cp .workspace/orchestrate/{area}/batch.state.json {room}/{name}.state-"$1" 2>/dev/null
    if [ -e .workspace/orchestrate/{area} ]; then : >{room}/{name}.area-"$1"; fi
    : >{room}/{name}.after-"$1"
    return 0
}}
"""


class Section(NamedTuple):
    """What one block said and left.

    Attributes:
        code: Of its last command; -1 if that was not reached.
        state: The state file after it.
        area: Whether the area's folder was there after it.
    """

    out: str
    err: str
    code: int
    state: dict[str, Any] | None
    area: bool


class Script:
    """A script that runs, or ran, in a pane of its own."""

    def __init__(self, team: "Team", name: str, pane: str, pid: int) -> None:
        self.team, self.name, self.pane, self.pid = team, name, pane, pid

    def _file(self, ending: str) -> Path:
        return self.team.room / f"{self.name}.{ending}"

    def has_ended(self) -> bool:
        """Also if tmux has not collected it: older ones miss such news."""
        fields = stat_fields(self.pid)
        return fields is None or fields[0] == b"Z"

    def wait(self) -> int:
        """Its exit code; -1 if it was killed."""
        self.team.wait_for(self.has_ended, f"{self.name} has ended")
        code = self._file("code")
        return int(code.read_text()) if code.exists() else -1

    def wait_after(self, number: int) -> None:
        """Until block `number` has been run, or the script has ended before."""
        done = self._file(f"after-{number}")
        self.team.wait_for(lambda: done.exists() or self.has_ended(), f"{self.name}: {number}")

    def kill(self) -> None:
        """Kill -9 the shell and what it is just running: its pane is then gone, too."""
        os.killpg(self.pid, signal.SIGKILL)
        assert self.wait() == -1

    def text(self) -> str:
        """All that it said, stderr last."""
        files = [self._file("out"), self._file("err")]
        return "".join(file.read_text() for file in files if file.exists())

    def section(self, number: int) -> Section:
        """What its block of this number said and left."""
        streams = []
        for ending in ("out", "err"):
            text = self._file(ending).read_text()
            found = re.search(rf"^== {number}\n(.*?)(?=^== |\Z)", text, re.DOTALL | re.MULTILINE)
            streams.append(found[1] if found else "")
        code = self._file(f"code-{number}")
        state = self._file(f"state-{number}")
        return Section(
            *streams,
            int(code.read_text()) if code.exists() else -1,
            json.loads(state.read_text()) if state.exists() else None,
            self._file(f"area-{number}").exists(),
        )


class Team(Crew):
    """A repository with the shims, a tmux session with idle panes, and agents with a ledger.

    Args:
        room: A folder of its own, made here.
        panes: How many idle panes there are beside the one that keeps the session.
        workspace: As in gangline.toml.
        batch: Keys added to [batch] of gangline.toml.
        installed: By `gangline shell install`, as a person does it, instead of by copying.
    """

    def __init__(
        self,
        room: Path,
        *,
        panes: int = 3,
        workspace: str = "shared",
        batch: str = "",
        installed: bool = False,
    ) -> None:
        super().__init__(room)
        start = ["sh", str(self.agent), str(self.ledger_path), str(room), "wait"]
        self.settings(_SETTINGS.format(batch=batch, start=json.dumps(start), workspace=workspace))
        self.calls_path = room / "calls"
        self.calls_path.touch()
        calls, python = shlex.quote(str(self.calls_path)), shlex.quote(sys.executable)
        self.program("gangline", _GANGLINE.format(calls=calls, python=python))
        if installed:
            self.run("shell", "install", check=0)
        else:
            shutil.copytree(SCRIPTS, self.folder / "scripts", dirs_exist_ok=True)
        self.commit()
        self.open_session()
        self.panes = [self.open_pane() for _ in range(panes)]
        for pane in self.panes:
            self.wait_for_idle(pane)

    # -- panes -----------------------------------------------------------------------------

    def open_session(self) -> None:
        """The team's tmux session, held by a pane that is never idle."""
        done = self.tmux("-f", os.devnull, "new-session", "-d", "-s", "team", "-x", "200", "cat")
        assert done.returncode == 0, done.stderr

    def open_pane(self, *command: str) -> str:
        """A new window with one pane, the one that is looked at; bash unless a command is given.

        The document's `tmux display-message -p '#{pane_id}'` tells the pane that is looked at.
        """
        command = command or ("bash", "--norc")
        where = ["-t", "team:", "-c", str(self.folder), "-P", "-F", "#{pane_id}"]
        done = self.tmux("new-window", *where, *command)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def pane_pid(self, pane: str) -> int:
        return int(self.tmux("display-message", "-p", "-t", pane, "#{pane_pid}").stdout)

    def wait_for_idle(self, pane: str) -> None:
        pid = self.pane_pid(pane)
        self.wait_for(lambda: waits_by_proc(pid), f"pane {pane} is idle")

    # -- shell -----------------------------------------------------------------------------

    def script(
        self, blocks: Sequence[str], *, name: str = "script", shell: str = "bash", before: str = ""
    ) -> Script:
        """Run blocks one after another in a new pane; block n is between `== n` and `== n+1`.

        Args:
            blocks: Numbered from 1.
            name: Of its files in the room.
            shell: One of SHELLS.
            before: Lines in front of the first block.
        """
        prelude = _PRELUDE.format(room=shlex.quote(str(self.room)), name=name, area=AREA)
        parts = [prelude, before]
        for number, text in enumerate(blocks, 1):
            parts.append(f"block {number}\n{text}\nafter {number} $?\n")
        path = self.room / f"{name}.sh"
        path.write_text("\n".join(parts))
        # It waits for a line of ours, so that its pid is known before it can have ended.
        gate = self.room / f"{name}.gate"
        os.mkfifo(gate)
        quoted = [shlex.join([*SHELLS[shell], str(path)]), shlex.quote(str(gate))]
        pane = self.open_pane("sh", "-c", f"read go <{quoted[1]}; exec {quoted[0]}")
        script = Script(self, name, pane, self.pane_pid(pane))
        gate.write_text("go\n")
        return script

    def shell(self, text: str, *, check: int | None = 0, name: str | None = None) -> Section:
        """Run one block with the shims sourced, in a pane of its own, to its end."""
        name = name or f"shell-{len(list(self.room.glob('shell-*.sh')))}"
        script = self.script(
            [text], name=name, before="source scripts/orchestrate-helpers.sh\n" + ORCH_PANE
        )
        script.wait()
        section = script.section(1)
        if check is not None:
            assert section.code == check, section
        return section

    def calls(self, *verb: str) -> list[list[str]]:
        """The calls of the shims, or of one of them: verb and arguments, in order."""
        lines = self.calls_path.read_text().splitlines()
        found = [line[1:-1].split("><") for line in lines if line.startswith("<shell>")]
        return [words[1:] for words in found if not verb or words[1] in verb]

    # -- the batch -------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.area() / "batch.state.json").read_text())
        return state

    def begin_by_shell(self, dag: Mapping[int, Iterable[int]], *, agent: str = "worker") -> None:
        """A batch begun by the shell and one cycle of its loop, whose agents have started.

        The shell has ended by then, which is what a crash between two cycles leaves.
        """
        self.shell(f"{init(dag, agent)}\n{CYCLE}")
        self.wait_for_agents()

    def wait_for_agents(self) -> None:
        """Until the agent of every issue that is recorded as dispatched has started."""
        running = {(i, e["attempt"]) for i, e in self.state()["dispatched"].items()}
        self.wait_for(
            lambda: running <= {(line.issue, line.attempt) for line in self.starts()},
            f"agents of {running} have started",
        )

    def attempt_id(self, issue: int) -> str:
        state = self.state()
        number = state["dispatched"][str(issue)]["attempt"]
        return f"{state['batchId']}-{issue}-a{number}"

    def wait_for_exit(self, *issues: int) -> None:
        """Until the attempts of these issues have ended; nobody need have recorded it."""
        for issue in issues:
            record = self.area() / "attempts" / self.attempt_id(issue) / "exit.json"
            self.wait_for(record.exists, f"the agent of #{issue} has ended")

    def kill_agent(self, issue: int) -> str:
        """Kill -9 the runner of an issue, its agent, and its pane; the pane it was."""
        attempt = self.attempt_id(issue)
        (self.room / f"gone-{attempt}").touch()
        pane: str = self.state()["dispatched"][str(issue)]["pane"]
        claim = self.area() / "attempts" / attempt / "claim"
        os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
        self.tmux("kill-pane", "-t", pane)
        return pane

    def archived(self) -> list[dict[str, Any]]:
        """The states of the batches in the archive."""
        folder = self.folder / ".workspace" / "orchestrate" / ".archive" / AREA
        return [json.loads(path.read_text()) for path in folder.glob("*/batch.state.json")]

    def started(self) -> dict[str, int]:
        """How often the agent of each issue was started."""
        issues = [line.issue for line in self.starts()]
        return {issue: issues.count(issue) for issue in issues}

    def out_of_order(self, dag: Mapping[int, Iterable[int]]) -> list[tuple[int, int]]:
        """Issues that started before one they depend on had ended for the last time."""
        place = {(line.what, int(line.issue)): n for n, line in enumerate(self.ledger())}
        return [
            (issue, other)
            for issue, others in dag.items()
            for other in others
            if place["start", issue] < place["end", other]
        ]


ORCH_PANE = "ORCH_PANE=$(tmux display-message -p '#{pane_id}')\n"
CYCLE = 'orch_poll_cycle "$AREA" "$AREA_DIR" "" "$ORCH_PANE"'


def init(dag: Mapping[int, Iterable[int]], agent: str = "worker") -> str:
    """The line that begins a batch, as the specification's shell does."""
    issues = json.dumps(list(dag))
    edges = json.dumps({str(issue): list(others) for issue, others in dag.items() if others})
    return f"orch_init \"$AREA\" '{issues}' '{edges}' {agent} \"$ORCH_PANE\""
