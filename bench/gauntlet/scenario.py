"""One batch that goes through every transition, played with a fault at one system call of it.

The play is a fixed row of commands, as a person types them: `run`; `retry` of two failed issues; an
edit of the state file; `run`; the `run` that archives. Eight issues succeed, fail, die once, die
twice, fail by signal file, are skipped, are cancelled by a command of their own. A fault strikes
one process: a command by its number, a runner by its issue and attempt, or the agent's own
`gangline cancel`. Whatever is struck is typed again, as a person would, until the batch is
archived.

The agents are the witnesses: each writes into a ledger outside of Gangline's reach, and holds a
lock of its issue that all its processes inherit, so that an overlap of two is seen by the kernel.
"""

import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from gauntlet import hand
from gauntlet.calls import TRACED, Call, read_calls
from gauntlet.nursery import Born, the_nursery
from project import Project

import gangline
from gangline.errors import GanglineError
from gangline.store.area import AreaPaths
from gangline.store.batches import Store

AREA = "work"
BY_HAND = "by hand: "  # a fault aimed by hand.py; in a second line what strace is to inject
BY_PATH = "by path: "  # a runner's call on this file; in a second line what strace is to inject
COMMANDS_MAX = 12  # of one act: more is a batch that never ends
COMMAND_SECONDS_MAX = 240.0  # reached only by one that hangs
LEFT_SECONDS_MAX = 60.0
_LOOK_SECONDS = 0.02
_TRACED = ",".join(f"?{name}" for name in TRACED)
_QUIET = "--quiet=exit,path-resolution,personality,thread-execve"
_TRACE = ["-f", "-b", "execve", _QUIET, "-y", "-ttt", "-e", f"trace={_TRACED}"]
_CONTROL_CLIENT = " -C attach-session "
_HAND = str(Path(hand.__file__))

# What an agent does depends on the ledger alone, so that it can be set back with the disk.
_AGENT = r"""
room=$1
issue=$GANGLINE_ISSUE
attempt=${GANGLINE_ATTEMPT##*-a}
exec 9>>"$room/living-$issue"
alone=yes
flock -n 9 || alone=no
before=$(grep -c "^start $issue " "$room/ledger")
say() { echo "$1 $issue $attempt $$ $alone $(date +%s.%N)" >>"$room/ledger"; }
say start
echo "agent of $issue works"
case $issue in
  2) [ -e "$room/second-act" ] || { say end; exit 3; } ;;
  3) [ "$before" -gt 0 ] || { setsid sleep 300 & kill -9 $$; } ;;
  4) setsid sleep 300 & kill -9 $$ ;;
  6) [ -e "$room/second-act" ] || echo no >"$room/area/issue-6.exit" ;;
  7) if "$room/gangline" cancel work 7 >/dev/null 2>&1; then say cancelled; exec sleep 300; fi
     say end; exit 9 ;;
esac
say end
"""

# The runner, or strace and then the runner in the same process, where a fault is laid out for it.
_RUNNER = r"""#!/bin/sh
folder=$5
rest=${folder%-a*}
role=runner-${rest##*-}-${folder##*-a}
plan=@ROOM@/faults/$role
if [ ! -e "$plan" ] && [ ! -e @ROOM@/faults/all-runners ]; then exec @PYTHON@ "$@"; fi
[ -e "$plan" ] || plan=/dev/null
mark=$GANGLINE_MARK
unset GANGLINE_MARK
set -- -o "@ROOM@/traces/$role" @PYTHON@ "$@"
options=$(sed "s|@FOLDER@|$folder|g" "$plan")
exec strace -DDD @STRACE@ -E "GANGLINE_MARK=$mark" $options "$@"
"""
_CANCEL = r"""#!/bin/sh
plan=@ROOM@/faults/cancel
export PYTHONPATH=@PACKAGE@
if [ ! -e "$plan" ]; then exec @PYTHON@ -m gangline "$@"; fi
if [ -s "$plan.aim" ]; then GAUNTLET_STRIKE=$(cat "$plan.aim"); export GAUNTLET_STRIKE; fi
set -- @PYTHON@ -P @HAND@ @PYTHON@ "$@"
exec strace @STRACE@ $(cat "$plan") -o @ROOM@/traces/cancel "$@"
"""


def split_fault(inject: str) -> tuple[str, str]:
    """What is to be aimed at (by hand.py; for a runner, a file), and what strace is to inject."""
    if not inject.startswith((BY_HAND, BY_PATH)):
        return "", inject
    aim, _, strike = inject.partition(": ")[2].partition("\n")
    return aim, strike


class Line(NamedTuple):
    """One line of the ledger: `start`, `end` or `cancelled`; `alone` is the kernel's word."""

    what: str
    issue: str
    attempt: int
    pid: int
    alone: bool
    at: float


class Command(NamedTuple):
    """One command that was typed: what strace and the exit code say of it."""

    argv: tuple[str, ...]
    code: int
    said: str
    role: str
    began: float  # seconds since the epoch


class Theatre(Project):
    """A folder, a tmux server and agents for one play; nothing of it outlives `close`."""

    def __init__(self, room: Path, *, git: bool = False, bytes_traced: int = 4000) -> None:
        super().__init__(room, git=git)
        self.bytes_traced = bytes_traced
        kind = "worktree" if git else "shared"
        self.settings(f'[batch]\non_failed_dependency = "skip"\n[workspace]\nkind = "{kind}"\n')
        if git:
            self.commit()  # what is not committed the agents would not see
        # What is played is the Gangline that judges, also where that is a copy.
        self.environment["PYTHONPATH"] = str(Path(gangline.__path__[0]).parent)
        for name in ("faults", "traces"):
            (room / name).mkdir()
        (room / "area").symlink_to(self.area())
        (room / "ledger").touch()
        (room / "agent.sh").write_text(_AGENT)
        for name, text in (("python", _RUNNER), ("gangline", _CANCEL)):
            script = text.replace("@ROOM@", shlex.quote(str(room)))
            script = script.replace("@PYTHON@", shlex.quote(sys.executable))
            script = script.replace("@HAND@", shlex.quote(_HAND))
            script = script.replace("@PACKAGE@", shlex.quote(self.environment["PYTHONPATH"]))
            script = script.replace("@STRACE@", shlex.join([*_TRACE, "-s", str(bytes_traced)]))
            (room / name).write_text(script)
            (room / name).chmod(0o755)
        self.commands: list[Command] = []
        self.snapshots: list[bytes] = []  # whole lines of the journal after each command
        self.trouble: list[str] = []
        self._start_server()

    def _start_server(self) -> None:
        """The tmux server is there before any command, so that it is no command's child."""
        keeper = ("-d", "-s", "keeper", "tail", "-f", os.devnull)
        self.tmux("-f", os.devnull, "new-session", *keeper)
        self.server = int(self.tmux("display-message", "-p", "#{pid}").stdout)

    def cut_power(self) -> None:
        """End every process, and what was known of them; what is on disk is left to the caller."""
        while living := self.processes():  # the server too: the next one takes over its socket
            for pid in living:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_LOOK_SECONDS)
        self.commands, self.snapshots, self.trouble = [], [], []
        self._start_server()

    def write_plan(self, issues: Mapping[int, tuple[int, ...]]) -> None:
        """The plan file: each issue with its dependencies, done by the agent script."""
        argv = ["sh", str(self.room / "agent.sh"), str(self.room)]
        self.plan(
            [
                {"id": n, "title": f"issue {n}", "depends_on": list(after), "run": argv}
                for n, after in issues.items()
            ]
        )

    def lay_fault(self, role: str, inject: str) -> None:
        """Have the runner or the cancel of this role traced; struck too, unless `inject` is ""."""
        aim, strike = split_fault(inject)
        options = f"-e inject={strike}" if strike else ""
        if inject.startswith(BY_PATH):
            options += f" -P {aim} -P @FOLDER@/{aim} -P {self.folder / aim}"
        (self.room / "faults" / role).write_text(options)
        (self.room / "faults" / f"{role}.aim").write_text(aim)

    def type(self, argv: tuple[str, ...], inject: str | None) -> Command:
        """Run a command to its end; traced unless `inject` is None, struck unless it is ""."""
        number = len(self.commands)
        trace = self.room / "traces" / f"command-{number}"
        aim, strike = split_fault(inject or "")
        tracer = ["strace", *_TRACE, "-s", str(self.bytes_traced), "-o", str(trace)]
        tracer += ["-e", f"inject={strike}"] if strike else []
        began = time.time()
        born = Born(
            the_nursery(),
            [str(self.room / "python"), *argv],
            self.room / f"said-{number}",
            cwd=self.folder,
            env=self.environment | ({hand.STRIKE: aim} if aim else {}),
            tracer=None if inject is None else tracer,
        )
        code = born.wait(COMMAND_SECONDS_MAX)
        said = born.text()
        command = Command(argv, code, said, f"command-{number}", began)
        self.commands.append(command)
        self.snapshots.append(self.journal().rpartition(b"\n")[0])
        problem = self._unreadable()
        if problem:
            self.trouble.append(f"after {' '.join(argv)}: {problem}")
        return command

    def _unreadable(self) -> str | None:
        """Why what is on disk now cannot be read, by Gangline or by `jq`; None if it can."""
        paths = AreaPaths(str(self.folder / ".workspace"), AREA)
        store = Store(paths)
        try:
            store.load()
            with open(paths.state, encoding="utf-8") as file:
                json.load(file)
        except GanglineError as error:
            return f"the state cannot be loaded: {error.message}"
        except FileNotFoundError:
            return None
        except ValueError as error:
            return f"the state file is no JSON: {error}"
        finally:
            store.close()
        return None

    def journal(self) -> bytes:
        """The journal, wherever it is now; b"" if there is none."""
        places = [self.area(), *sorted(self.archive().glob("*"))]
        for place in places:
            if (place / "batch.journal.jsonl").exists():
                return (place / "batch.journal.jsonl").read_bytes()
        return b""

    def archive(self) -> Path:
        """Where finished batches are."""
        return self.folder / ".workspace" / "orchestrate" / ".archive" / AREA

    def ledger(self) -> list[Line]:
        """What the agents wrote, in the order of writing."""
        lines = []
        for text in (self.room / "ledger").read_text().splitlines():
            what, issue, attempt, pid, alone, at = text.split()
            lines.append(Line(what, issue, int(attempt), int(pid), alone == "yes", float(at)))
        return lines

    def left(self) -> dict[int, str]:
        """Processes that should not be there when a batch is archived: all but the keeper's.

        A tmux 3.3a whose control client's reader was killed may keep that client for as long as the
        server lives (its output can never be drained); it is tmux's own and holds nothing of ours.
        """
        pane = self.tmux("list-panes", "-a", "-F", "#{session_name} #{pane_pid}").stdout
        keepers = {int(line.split()[1]) for line in pane.splitlines() if line.startswith("keeper ")}
        return {
            pid: words
            for pid, words in self.processes().items()
            if pid != self.server and pid not in keepers and _CONTROL_CLIENT not in words
        }

    def calls(self, role: str) -> list[Call]:
        """What this process was seen to call."""
        return read_calls(self.room / "traces" / role)


class Play:
    """The row of commands, each typed again until it has done what it is for.

    Args:
        theatre: Its folder.
        faults: Which process is struck how: `command-N`, `runner-ISSUE-ATTEMPT` or `cancel` to what
            strace's `inject=` takes; "" only traces it.
        issues: Issue to dependencies.
        acts: Whether the second act (retry, edit, run) is played.
    """

    def __init__(
        self,
        theatre: Theatre,
        faults: Mapping[str, str],
        issues: Mapping[int, tuple[int, ...]],
        *,
        acts: bool = True,
    ) -> None:
        self.theatre = theatre
        self._faults = faults
        self.issues = issues
        self._acts = acts
        self.lost_signals = False  # by a power cut: a file that an agent wrote and did not sync
        self.edited = False
        self.played_second_act = False
        theatre.write_plan(issues)
        for role, inject in faults.items():
            if not role.startswith("command-"):
                theatre.lay_fault(role, inject)

    def struck(self, role: str) -> bool:
        """Whether a fault was laid out for this process."""
        return bool(self._faults.get(role))

    def perform(self) -> None:
        """Play to the end; `theatre.trouble` says what should not have been."""
        self._run_until_over()
        if self._acts and self._is_there():
            self.second_act()
        for _ in range(COMMANDS_MAX):
            if not self._is_there():
                break
            self._type("run", AREA)
        else:
            self.theatre.trouble.append("the batch is never archived")
        self._wait_for_quiet()

    def second_act(self) -> None:
        """A person has another try of what failed, and declares an issue completed by hand."""
        self.played_second_act = True
        (self.theatre.room / "second-act").touch()
        for issue in ("2", "6"):
            # Without its signal file, 6 ended with exit code 0.
            if not (self.lost_signals and self._state()["status"][issue] == "completed"):
                self._retry(issue)
        self._edit()
        self._run_until_over()

    def _type(self, *argv: str) -> Command:
        role = f"command-{len(self.theatre.commands)}"
        return self.theatre.type(argv, self._faults.get(role))

    def _is_there(self) -> bool:
        return self.theatre.area().exists()

    def _run_until_over(self) -> None:
        for _ in range(COMMANDS_MAX):
            begun = self._is_there() or self.theatre.archive().exists()
            begun = begun and bool(self.theatre.journal())
            source = () if begun else ("--from", "plan.json", "--max-concurrent", "3")
            code = self._type("run", AREA, *source).code
            gone = begun and not self._is_there()  # struck when it had just been archived
            if code in (0, 1) or gone:
                return
        self.theatre.trouble.append("the batch never ends")

    def _retry(self, issue: str) -> None:
        wanted = b'"type":"retried"', f'"issue":"{issue}"'.encode()
        for _ in range(COMMANDS_MAX):
            self._type("retry", AREA, issue)
            lines = self.theatre.snapshots[-1].split(b"\n")
            if any(all(word in line for word in wanted) for line in lines):
                return
        self.theatre.trouble.append(f"#{issue} cannot be retried")

    def _edit(self) -> None:
        """Set a status as people do: read, change, write beside, rename."""
        path = self.theatre.area() / "batch.state.json"
        state = self._state()
        state["status"]["4"] = "completed"
        part = path.with_name("edited-by-hand")
        part.write_text(json.dumps(state, indent=2))
        part.rename(path)
        self.edited = True

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.theatre.area() / "batch.state.json").read_text())
        return state

    def _wait_for_quiet(self) -> None:
        """A runner lets go of its lock a moment before it ends; then nothing may be left."""
        deadline = time.monotonic() + LEFT_SECONDS_MAX
        while left := self.theatre.left():
            if time.monotonic() > deadline:
                self.theatre.trouble.append(f"processes are left: {left}")
                return
            time.sleep(_LOOK_SECONDS)


# 5 waits for one that fails, 8 for one that dies once, 6 fails by its signal file.
ISSUES: dict[int, tuple[int, ...]] = dict(
    enumerate([(), (), (), (), (2,), (1,), (1,), (3,)], start=1)
)


def make_room() -> "tempfile.TemporaryDirectory[str]":
    """A folder for one play."""
    return tempfile.TemporaryDirectory(prefix="gauntlet-")
