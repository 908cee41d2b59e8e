"""`gangline demo`: the promise shown in half a minute, on a real repository, with nothing faked.

Eight issues run on real worktrees, panes and commits; in the middle the orchestrator is killed with
SIGKILL, the agents run on, and `gangline run` goes on where it was. What is claimed at the end is
checked against what the agents wrote down themselves (demo/ledger.py), git, and the program's own
tests: if any of it does not hold, the demo says so and exits with 1.

What must stay true: whatever happens, also on Ctrl-C, nothing that was started is left.
"""

import os
import re
import shlex
import signal
import sys
import textwrap
import time
from collections.abc import Collection, Sequence
from types import FrameType, TracebackType
from typing import Any, Self

from gangline.demo.following import Follower, wait_for
from gangline.demo.ledger import Ledger
from gangline.demo.stage import AREA, Stage
from gangline.errors import EXIT_OK, EXIT_UNFINISHED, GanglineError, MachineError
from gangline.hosts.tmux_server import require_tmux

ISSUES = tuple(str(number) for number in range(1, 9))
_LAST_BRANCH = f"gangline/{AREA}/issue-{ISSUES[-1]}"
_PANES = 3
_LIMIT = ("--max-concurrent", str(_PANES))
_COMPLETED_BEFORE_KILL = 3
_INDENT = "  "
_COLUMNS = 80
_SUMMARY = "Summary of "
_COMPLETED = re.compile(r"[0-9:]{8} #(\S+) completed")
_WRAPPER = textwrap.TextWrapper(
    width=_COLUMNS - len(_INDENT),
    subsequent_indent=_INDENT,
    break_long_words=False,
    break_on_hyphens=False,
)


class Tests:
    """What a run of the program's tests said: how many there are, and how many of them failed."""

    def __init__(self, printed: str) -> None:
        ran = re.search(r"^Ran (\d+) tests? in", printed, re.MULTILINE)
        outcome = re.search(r"^(?:OK|FAILED \((.*)\))$", printed, re.MULTILINE)
        if ran is None or outcome is None:
            raise MachineError(
                "the tests of the program cannot be run", causes=printed.splitlines()
            )
        self.total = int(ran[1])
        self.failed = sum(map(int, re.findall(r"(?:failures|errors)=(\d+)", outcome[1] or "")))


class Checks:
    """What is claimed, each claim checked and said as it stands."""

    def __init__(self) -> None:
        self.failed = 0

    def check(self, holds: bool, claim: str, otherwise: Sequence[str] = ()) -> None:
        """Say the claim if it holds; else that it does not, and what was found."""
        if holds:
            _say(f"ok: {claim}")
            return
        self.failed += 1
        _say(f"CHECK FAILED, this is not so: {claim}")
        for text in otherwise:
            _say(f"  {text}")


class Interruption:
    """INT, TERM and HUP: the first ends the story, and none may interrupt the taking down."""

    def __init__(self) -> None:
        self._noted = self._heeding = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def heed(self) -> None:
        """From now on raise KeyboardInterrupt, once; also for one that came before."""
        self._heeding = True
        if self._noted:
            self._interrupt()

    def disregard(self) -> None:
        """From now on only note."""
        self._heeding = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True
        if self._heeding:
            self._interrupt()

    def _interrupt(self) -> None:
        self._heeding = False
        raise KeyboardInterrupt


def play(*, keep: bool) -> int:
    """Run the demo; its exit code: 0 if everything that it claims was checked and holds.

    Args:
        keep: Leave the folder, to look around in it. What was started is ended all the same.

    Raises:
        MachineError: tmux or git is missing, or something did not happen in time.
    """
    require_tmux()
    began = time.monotonic()
    with Interruption() as interruption:
        stage = Stage()
        try:
            interruption.heed()
            failed = _story(stage)
        finally:
            interruption.disregard()
            stage.strike(keep=keep)
            if keep:
                print(f"\nKept: cd {shlex.quote(stage.repository)} && gangline status {AREA}")
    left = "everything has been ended" if keep else "nothing is left behind"
    if failed:
        print("\nSomething that Gangline promises did not hold. Look around: gangline demo --keep")
    print(f"\nTook {time.monotonic() - began:.0f} s; {left}.")
    return EXIT_UNFINISHED if failed else EXIT_OK


def _story(stage: Stage) -> int:
    """Set up, run, kill, look, resume, check; how many claims did not hold."""
    stage.build()
    before = _tests(stage)
    _show_batch(stage, before)
    checks = Checks()
    _head(f"The batch runs: gangline run {AREA} {' '.join(_LIMIT)}")
    argv = stage.gangline("run", AREA, *_LIMIT)
    with Follower(argv, stage.repository, stage.environment, _say) as first:
        if not first.until(lambda lines: _in_the_middle(stage, lines), "the middle of the batch"):
            raise GanglineError("the batch ended before its middle", causes=first.lines)
        first.kill()
    working = Ledger.read(stage.log).running()
    _head(f"kill -9 {first.pid}: no orchestrator lives, {_agents(working)} at work")
    _say_lines(stage.answer("status", AREA))
    wait_for(
        lambda: not working or bool(_ended_alone(stage, working)),
        "the end of an agent",
    )
    alone = _ended_alone(stage, working)
    _say(f"The agents run on. Ended while nobody watched: {_ids(alone)}")
    _head(f"The same command goes on: gangline run {AREA}")
    resumed, code = _resume(stage)
    _head("Checked, by the log that the agents keep themselves, by git and by the tests")
    _check_agents(checks, Ledger.read(stage.log), working)
    _check_record(checks, [*first.lines, *resumed], alone, code)
    _check_program(checks, stage, before)
    _head("The summary that gangline run ended with")
    _say_lines("\n".join(_summary(resumed)))
    return checks.failed


# -- the chapters --------------------------------------------------------------------------------


def _show_batch(stage: Stage, before: Tests) -> None:
    _head(f"A small program: {before.failed} of its {before.total} tests fail")
    _say(stage.repository)
    _head(f"{len(ISSUES)} issues are to mend it: gangline plan {AREA} {' '.join(_LIMIT)}")
    _say_lines(stage.answer("plan", AREA, *_LIMIT))


def _in_the_middle(stage: Stage, lines: Sequence[str]) -> bool:
    """Three issues are completed and agents are at work, as these say themselves."""
    completed = len(_completed(lines))
    running = len(Ledger.read(stage.log).running())
    # On a slow machine the second three may never run all at once; then one will do.
    enough = _PANES if completed == _COMPLETED_BEFORE_KILL else 1
    return completed >= _COMPLETED_BEFORE_KILL and running >= enough


def _ended_alone(stage: Stage, working: dict[str, int]) -> set[str]:
    """Those of the agents at work that have done it since, their end recorded by the runner."""
    return Ledger.read(stage.log).ended() & stage.recorded_ends() & set(working)


def _resume(stage: Stage) -> tuple[list[str], int]:
    """The lines of the second run, without showing its summary yet, and its exit code."""
    shown: list[str] = []

    def show(line: str) -> None:
        shown.append(line)
        if not any(earlier.startswith(_SUMMARY) for earlier in shown):
            _say(line)

    with Follower(stage.gangline("run", AREA), stage.repository, stage.environment, show) as second:
        code = second.finish()
    return second.lines, code


def _check_agents(checks: Checks, ledger: Ledger, working: dict[str, int]) -> None:
    """What the agents say; `working` were at work when the orchestrator was killed."""
    faults = ledger.faults(ISSUES)
    counts = f"{len(ISSUES)} issues, {ledger.count('start')} starts, {ledger.count('end')} ends"
    checks.check(not faults, f"{counts}: nothing ran twice, nothing was lost", faults)
    lost = [issue for issue, pid in working.items() if ("end", issue, pid) not in ledger.lines]
    checks.check(
        bool(working) and not lost,
        f"{_agents(working)} outlived the orchestrator and ended by themselves: {_ids(working)}",
        [f"did not: {_ids(lost)}"],
    )


def _check_record(checks: Checks, lines: Sequence[str], alone: set[str], code: int) -> None:
    """What Gangline says; `alone` ended while no orchestrator lived."""
    told = set(_completed([line for line in lines if line.startswith(_INDENT)]))  # see cli/lines.py
    checks.check(
        "While no orchestrator lived:" in lines and bool(alone) and alone <= told,
        f"the second run found by itself what had ended meanwhile: {_ids(told)}",
        [f"what had ended: {_ids(alone)}"],
    )
    completed = _completed(lines)
    checks.check(
        code == EXIT_OK and sorted(completed) == list(ISSUES),
        f"Gangline recorded {len(completed)} issues as completed, each once",
        [f"exit code {code}", f"completed: {', '.join(completed)}"],
    )


def _check_program(checks: Checks, stage: Stage, before: Tests) -> None:
    stage.git("merge", "--quiet", _LAST_BRANCH)
    after = _tests(stage)
    checks.check(
        after.failed == 0 and after.total == before.total and before.failed > 0,
        f"{after.total - after.failed} tests passed; at the beginning {before.failed} failed",
        [f"{after.failed} of {after.total} tests failed"],
    )
    printed = stage.command([sys.executable, "-m", "tally", "README.md"])
    checks.check(printed.returncode == 0, "the program works: python -m tally README.md")
    _say_lines(printed.stdout, indent=_INDENT * 2)


def _tests(stage: Stage) -> Tests:
    return Tests(stage.command([sys.executable, "-m", "unittest"]).stderr)


def _completed(lines: Sequence[str]) -> list[str]:
    """The issues that Gangline said are completed, as often as it said so."""
    return [found[1] for line in lines if (found := _COMPLETED.fullmatch(line.strip()))]


def _summary(lines: Sequence[str]) -> list[str]:
    """The summary's table, without the advice after it: the demo has merged already."""
    start = next((n for n, line in enumerate(lines) if line.startswith(_SUMMARY)), len(lines))
    table = list(lines[start:])
    return table[: table.index("")] if "" in table else table


# -- words ---------------------------------------------------------------------------------------


def _agents(issues: Collection[str]) -> str:
    return f"{len(issues)} agent{'' if len(issues) == 1 else 's'}"


def _ids(issues: Collection[str]) -> str:
    return ", ".join(f"#{issue}" for issue in sorted(issues))


def _head(text: str) -> None:
    """The heading of a chapter; bold on a terminal that is not asked to be plain."""
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    print(f"\n{text}" if plain else f"\n\x1b[1m{text}\x1b[0m", flush=True)


def _say(line: str) -> None:
    """A line of a chapter; one that is wider than a usual terminal is broken at a space."""
    for part in _WRAPPER.wrap(line) or [""]:
        print(f"{_INDENT}{part}".rstrip(), flush=True)


def _say_lines(text: str, indent: str = "") -> None:
    for line in text.splitlines():
        _say(indent + line)
