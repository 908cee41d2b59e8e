"""bench/GAUNTLET.md: what was struck, how much of what there is, and what came of it."""

import datetime as dt
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gauntlet.injection import Part

REPORT = Path(__file__).resolve().parents[1] / "GAUNTLET.md"
_RUNS_KEPT = 2
_RUN = "\n## Run of "
_HEAD = """# The gauntlet: the real program killed at its system calls, and the power cut

`make gauntlet` writes this. One batch that goes through every transition (success, failure, death
and retry, two deaths, a signal file, skip, cancel, retry by command, an edit of the state file,
archive) is played with real tmux, and a second one with git worktrees. strace kills a process
before one of its system calls, or has the system refuse it; then whatever was struck is typed
again, until the batch is archived. The agents' own ledger, a lock of the kernel for each issue, and
the journal are held against the five promises (tests/prove/promises.py) and against what the play
has to come to.

- **Calls** are the state-changing system calls of the plays that were only watched (for the pairs:
  of the recoveries; for the power cuts: the states that may be found). Left out: reading, a
  program's own output, compiled Python, and the path search before an execve.
- **Plays** are the faults that were laid out, each in a batch of its own. Repeats of one site were
  sampled: one was chosen by the seed, and others until every site was hit.
- **Sites** are what the calls mean: process, system call, file, and for a commit the kinds of
  events in it. A play whose fault came to nothing, because the program had ended before, is not
  *struck*.
- Kills are aimed by the number of the call first, and what was hit is read from the trace. What was
  not hit so, and every refusal, is aimed at by the site: the command makes that one call by another
  system call that does the same (writev for write, fdatasync for fsync, ...), and strace strikes
  that; before an open, mkdir, unlink or flock the command kills itself.
- What the play with worktrees refuses as the other one does is refused once.
- Commands are forked by a process that has loaded the program (bench/gauntlet/nursery.py).
- Power cuts: of what was not synced each file is whole, absent, half or NULs. *ordered* is how ext4
  and APFS keep names: every state is started from, states that differ only in files that a start
  never looks at once (bench/gauntlet/every.py). *any* is all that POSIX promises: a sample.
"""


class Row(NamedTuple):
    """One line of the table."""

    part: str
    calls: int
    plays: int
    struck: int
    sites: int
    hit: int
    wrong: int
    seconds: float

    def text(self) -> str:
        """As Markdown."""
        sites = f"{self.hit} of {self.sites}" if self.sites else "-"
        calls = f"{self.calls:,}" if self.calls < 10**9 else f"{self.calls:.1e}"
        return (
            f"| {self.part} | {calls} | {self.plays:,} | {self.struck:,} | {sites} "
            f"| **{self.wrong}** | {self.seconds:.0f} |"
        )


def row_of(part: Part) -> Row:
    """The line of a part of the injection."""
    return Row(
        part.name,
        part.calls,
        len(part.results),
        part.struck,
        len(part.sites),
        len(part.hit & part.sites),
        len(part.wrong),
        part.seconds,
    )


def write_report(rows: Sequence[Row], seed: int, notes: Sequence[str]) -> None:
    """Put this run on top of the report; the one before it stays below, older ones go."""
    lines = [
        f"{_RUN.lstrip()}{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, seed {seed}\n",
        f"{_machine()}; {sum(row.seconds for row in rows) / 60:.0f} minutes.\n",
        "| part | calls | plays | struck | sites hit | broken promises | s |",
        "|---|---|---|---|---|---|---|",
        *(row.text() for row in rows),
        "",
        *(f"- {note}" for note in notes),
    ]
    before = REPORT.read_text().split(_RUN)[1:] if REPORT.exists() else []
    kept = [_RUN.lstrip("\n") + run.strip("\n") for run in before[: _RUNS_KEPT - 1]]
    REPORT.write_text("\n\n".join([_HEAD.strip(), "\n".join(lines).strip(), *kept]) + "\n")


def _machine() -> str:
    """Versions, and nothing that tells whose machine it is."""
    versions = [
        subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\n")[0]
        for argv in (["tmux", "-V"], ["strace", "-V"])
    ]
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{cores} cores, {system}, Python {platform.python_version()}, {', '.join(versions)}"
