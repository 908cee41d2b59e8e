"""The stage of the hostile world: one crew, what the world does to it, and the judge.

The judge is `tests/prove/promises.py`: the journal's events and the agents' own ledger are told to
it as one history. What the ledger adds to the journal is which agents were really executed, and
whether anything of an earlier attempt lived when one was.

Where a test needs a world of its own (mounts, process numbers, a boot), it gets it in namespaces of
the kernel, as root or as a user who may make them, and is skipped with the reason where neither is.
"""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from crew import Crew, Line
from project import Started
from promises import AgentGone, AgentStarted, Committed, Promises, Read, Rested

from gangline.core.codec import check_line, decode_event
from gangline.core.events import AnyEvent, BatchRestored, Dispatched, Ended
from gangline.core.model import Status

# Whoever has missed a hint looks again after a second.
SETTINGS = '[workspace]\nkind = "shared"\n[batch]\npoll_seconds = 1\n'
_PLANTED = Path(__file__).parent / "planted"

# An agent that nothing but KILL ends, with a daemon in a session of its own that is the same.
_STUBBORN = r"""
trap '' HUP INT TERM
setsid sh -c 'trap "" HUP INT TERM; while :; do sleep 1; done' >/dev/null 2>&1 &
"""


class HostileCrew(Crew):
    """A crew in one folder that all agents share, unless `worktrees`.

    Attributes:
        before: What is put before every gangline command, such as `unshare …`.
    """

    def __init__(self, room: Path, *, name: str = "project", worktrees: bool = False) -> None:
        self.before: list[str] = []
        super().__init__(room, name=name)
        if not worktrees:
            self.settings(SETTINGS)

    def command(self, *argv: str) -> list[str]:
        return [*self.before, *super().command(*argv)]

    def make_stubborn(self) -> None:
        """The agents ignore every polite signal, and so does a daemon that each leaves."""
        lines = self.agent.read_text()
        assert "\nif [" in lines
        self.agent.write_text(lines.replace("\nif [", f"\n{_STUBBORN}\nif [", 1))

    # -- orchestrators ---------------------------------------------------------------------

    def plan_issues(self, *numbers: int, seconds: str = "wait") -> None:
        """Issues that depend on nothing, each in the plan file."""
        self.plan([self.issue(number, seconds=seconds) for number in numbers])

    def orchestrate(self, area: str = "work", **plant: Any) -> Started:
        """An orchestrator, resuming or beginning; with something planted (sitecustomize.py)."""
        return self.start("run", area, "--from", "plan.json", env=planted(**plant))

    def start_program(self, argv: Sequence[str]) -> Started:
        """Start any program in the project; it is ended with it."""
        output = self.room / f"started-{len(self._started)}.txt"
        started = Started(argv, output, cwd=self.folder, env=self.environment)
        self._started.append(started)
        return started

    def start_shell(self, script: str) -> Started:
        return self.start_program(["sh", "-c", script])

    def lives(self, pid: int) -> bool:
        """Whether the process lives; one that has ended and was not collected does not."""
        return _lives(pid)

    def stopped(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait until the process has stopped itself, or was stopped."""
        self.wait_for(lambda: _state(process.pid) == "T", f"process {process.pid} is stopped")

    def tell_server_of_ends(self) -> None:
        """Have the tmux server, if there is one, collect the panes whose end it has missed."""
        pid = self.tmux("display-message", "-p", "#{pid}").stdout.strip()
        if pid:
            os.kill(int(pid), signal.SIGCHLD)

    def lock_file(self, kind: str = "orchestrator", area: str = "work") -> Path:
        return self.area().parent / ".locks" / f"{area}.{kind}"

    def wait_for_ends(self, count: int) -> None:
        """So many agents have ended by themselves, and their ends are on disk."""
        exits = self.area() / "attempts"
        self.wait_for(lambda: len(list(exits.glob("*/exit.json"))) >= count, f"{count} have ended")

    def wait_for_statuses(self, **expected: str) -> None:
        wanted = {name.removeprefix("n"): status for name, status in expected.items()}
        self.wait_for(lambda: self.recorded_statuses() == wanted, f"statuses {wanted}")

    def recorded_statuses(self, area: str = "work") -> dict[str, str]:
        """As the state file says it."""
        return json.loads((self.area(area) / "batch.state.json").read_text())["status"]

    # -- the judge -------------------------------------------------------------------------

    def events(self, area: str = "work") -> list[AnyEvent]:
        """The journal, every line checked."""
        lines = (self.area(area) / "batch.journal.jsonl").read_bytes().split(b"\n")[:-1]
        for line in lines:
            check_line(line)
        return [decode_event(line) for line in lines]

    def judge(self, area: str = "work", *, over: bool = True) -> None:
        """All five promises over what the journal and the ledger tell.

        Args:
            over: The batch should be at its end.
        """
        promises = Promises()
        started: dict[tuple[str, int], list[Line]] = {}
        for line in self.starts():
            started.setdefault((line.issue, line.attempt), []).append(line)
        alive: set[tuple[str, int]] = set()

        def start(key: tuple[str, int]) -> None:
            for line in started.pop(key, []):
                for other in {each for each in alive if each[0] == key[0]}:
                    if line.before == 0:  # the agent looked: nothing of it lived
                        promises.observe(AgentGone(*other))
                        alive.discard(other)
                promises.observe(AgentStarted(*key))
                alive.add(key)

        for event in self.events(area):
            if isinstance(event, Ended) and (event.issue, event.attempt) in alive:
                alive.discard((event.issue, event.attempt))
                promises.observe(AgentGone(event.issue, event.attempt))
            promises.observe(Committed((event,)))
            if isinstance(event, Dispatched):
                start((event.issue, event.attempt))
            if isinstance(event, BatchRestored):  # what was dispatched before the journal was lost
                for issue in [key for key, entry in promises.ledger.entries if entry.is_open]:
                    start((issue, promises.ledger[issue].newest))
        assert not started, f"executed, and not on record: {started}"
        told = {key: Status(status) for key, status in self.recorded_statuses(area).items()}
        promises.observe(Read(told))
        if over:
            promises.observe(Rested())

    def executions(self) -> list[tuple[int, int]]:
        """(issue, attempt) of every agent that was executed, sorted."""
        return sorted((int(line.issue), line.attempt) for line in self.starts())


def planted(**plant: Any) -> dict[str, str]:
    """The environment of a process with something planted in it."""
    if not plant:
        return {}
    return {"PYTHONPATH": str(_PLANTED), "GANGLINE_HOSTILE": json.dumps(plant)}


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class LateLaunch:
    """The launch of #2 was sent to a tmux server that hangs.

    Nobody knows whether it will be done: it depends on whether the server first reads the command,
    or that its client has given up.
    """

    def __init__(self, crew: HostileCrew) -> None:
        self.crew = crew
        crew.plan_issues(1, 2)
        launch = "gangline.hosts.local:LocalHost.launch"
        self.orchestrator = crew.orchestrate(stop=[launch, 2], tmux_seconds=0.5)
        crew.stopped(self.orchestrator)
        crew.wait_for_starts(1)
        self._server = int(crew.tmux("display-message", "-p", "#{pid}").stdout)
        os.kill(self._server, signal.SIGSTOP)
        self.orchestrator.send_signal(signal.SIGCONT)
        doubt = "tmux did not confirm the start of #2"
        crew.wait_for(lambda: doubt in self.orchestrator.text(), "the launch is in doubt")
        crew.run("pause", "work", check=0)  # the server would hang in the next launch as well

    def wake_server(self) -> None:
        os.kill(self._server, signal.SIGCONT)
        self.crew.run("resume", "work", check=0)


# -- worlds of their own -----------------------------------------------------------------------


@functools.cache
def _unshare(*flags: str) -> tuple[str, ...] | None:
    """The beginning of an argv that runs the rest in new namespaces; None: not on this machine."""
    if shutil.which("unshare") is None:
        return None
    for rights in ((), ("--user", "--map-root-user")):
        argv = ("unshare", *rights, *flags)
        if subprocess.run([*argv, "true"], capture_output=True, check=False).returncode == 0:
            return argv
    return None


def unshare(*flags: str) -> list[str]:
    """See `_unshare`; skips the test where it cannot be."""
    found = _unshare(*flags)
    if found is None:
        pytest.skip(f"this user cannot make namespaces here: unshare {' '.join(flags)}")
    return list(found)


def in_another_boot(room: Path, number: int = 1) -> list[str]:
    """What to put before a command so that it finds another boot id, as after a restart."""
    identity = room / f"boot-{number}"
    identity.write_text(f"00000000-0000-4000-8000-{number:012d}\n")
    mount = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    return [*unshare("--mount"), "sh", "-c", mount, str(identity)]


class Disk:
    """A small file system of its own, mounted on a folder in a mount namespace of its own.

    Commands enter it by `before`; a test reads its files by `path`.
    """

    def __init__(self, folder: Path, size: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        script = 'mount -t tmpfs -o "size=$1" disk "$0" && echo mounted && exec cat'
        argv = [*unshare("--mount"), "sh", "-c", script, str(folder), size]
        self._holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            self.close()
            pytest.skip("no file system can be mounted here")
        self._folder = folder
        self.before = ["nsenter", "--target", str(self._holder.pid), "--mount"]
        if _unshare("--mount") != ("unshare", "--mount"):
            self.before += ["--user", "--preserve-credentials"]
        # nsenter goes to the namespace's own root unless it is told where it stands.
        self.before += [f"--wd={os.fspath(folder.parent)}"]

    def path(self, *names: str) -> Path:
        """A path below the folder, as it is to be reached from outside."""
        return Path(f"/proc/{self._holder.pid}/root{self._folder}", *names)

    def fill(self) -> None:
        """Leave no byte."""
        with self.path("filler").open("wb", buffering=0) as file:
            size = 65536
            while size:
                try:
                    file.write(b"x" * size)
                except OSError:
                    size //= 2

    def make_room(self) -> None:
        self.path("filler").unlink()

    def grow(self, size: str) -> None:
        again = ["mount", "-o", f"remount,size={size}", str(self._folder)]
        subprocess.run([*self.before, *again], check=True)

    def forbid_writing(self) -> None:
        """Make it read-only for whoever opens a file from now on.

        The kernel makes nothing read-only under those who write already, so another view of it is
        mounted over it.
        """
        over = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"'
        subprocess.run([*self.before, "sh", "-c", over, str(self._folder)], check=True)

    def allow_writing(self) -> None:
        subprocess.run([*self.before, "umount", str(self._folder)], check=True)

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()


def run_inside(scenario: str, room: Path) -> None:
    """Play a scenario of `hostile_numbers.py` where it has the process numbers for itself."""
    argv = unshare("--pid", "--fork", "--mount-proc", "--kill-child")
    script = Path(__file__).parent / "hostile_numbers.py"
    # The shell is process 1 there, and collects the orphans that every first process is given.
    play = [sys.executable, str(script), scenario, str(room)]
    done = subprocess.run(
        [*argv, "sh", "-c", '"$@"; exit $?', "sh", *play],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr


def signal_and_wait(crew: HostileCrew, processes: Sequence[int], number: int) -> None:
    """Signal exactly these and wait until none lives (a zombie does not)."""
    for pid in processes:
        os.kill(pid, number)
    crew.wait_for(lambda: not any(map(_lives, processes)), f"{processes} are gone")


def _lives(pid: int) -> bool:
    try:
        return _state(pid) not in "ZX"
    except OSError:
        return False


def end_machine(crew: HostileCrew, orchestrator: Started) -> None:
    """What a power cut does: every process ends at once, and none is told."""
    orchestrator.send_signal(signal.SIGKILL)
    orchestrator.wait()

    def all_gone() -> bool:
        left = [pid for pid in crew.processes() if _lives(pid)]
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not left

    crew.wait_for(all_gone, "nothing lives any more")


def merged(*environments: Mapping[str, str]) -> dict[str, str]:
    return {key: value for each in environments for key, value in each.items()}
