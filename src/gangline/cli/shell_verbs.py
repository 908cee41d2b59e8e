"""The verbs of `gangline shell` as commands: words in, words and exit codes out.

Standard output is only what the specification's script reads from it; everything else is said on
standard error. An exit code of 1 is an answer ("no"), not an error.
"""

import os
import sys

from gangline.app import shell_cycle, shell_state
from gangline.app.archiving import archive
from gangline.app.running import take_orchestrator_lock
from gangline.app.truth import branches_to_merge
from gangline.app.views import fast_bytes
from gangline.app.wiring import Project
from gangline.cli.lines import Lines, say, warn
from gangline.cli.show import advice_text, summary_text
from gangline.cli.status import view_of_batch
from gangline.core.model import check_area
from gangline.core.text import harmless
from gangline.errors import EXIT_OK, AreaBusyError, UsageError
from gangline.hosts.processes import wall_time

_NO = 1


class _Said(Lines):
    """An observer whose lines do not get into what a script reads."""

    def say(self, text: str) -> None:
        """One line on standard error."""
        warn(text)


def init(args: list[str]) -> int:
    """Begin a batch."""
    area, issues, dag, agent, pane = [*args, "", "", ""][:5]
    shell_state.init_batch(area, issues, dag or "{}", agent or None, pane or None)
    return EXIT_OK


def state_path(args: list[str]) -> int:
    """Print where the state file is, or would be."""
    check_area(args[0])
    print(Project().paths(args[0]).state)
    return EXIT_OK


def state_read(args: list[str]) -> int:
    """Print the state."""
    check_area(args[0])
    data = fast_bytes(Project().paths(args[0]))
    sys.stdout.flush()
    sys.stdout.buffer.write(data or shell_state.read_state(args[0]))
    return EXIT_OK


def state_update(args: list[str]) -> int:
    """Change the state by a filter."""
    shell_state.update_state(*args)
    return EXIT_OK


def status_set(args: list[str]) -> int:
    """Set an issue's status."""
    told = shell_state.set_status(args[0], args[1], args[2], _Said())
    if told:
        warn(harmless(f"gangline: {told}"))
    return EXIT_OK


def find_idle_panes(args: list[str]) -> int:
    """Print idle panes, one a line."""
    for pane in shell_cycle.find_idle_panes(args[0] if args else None):
        print(pane)
    return EXIT_OK


def pane_alive(args: list[str]) -> int:
    """Whether what was dispatched to the pane lives."""
    return EXIT_OK if shell_state.pane_lives(args[0]) else _NO


def dispatch(args: list[str]) -> int:
    """Send an issue to a pane; 1 where it could not be sent there."""
    issue, pane, area_dir, agent = [*args, ""][:4]
    area = shell_cycle.area_of(area_dir, Project())
    why_not = shell_cycle.dispatch(issue, pane, area, agent or None, _Said())
    if why_not is None:
        return EXIT_OK
    warn(harmless(f"gangline: not dispatched: {why_not}"))
    return _NO


def record_dispatch(args: list[str]) -> int:
    """Nothing is left to be recorded after a dispatch; 1 where there was none."""
    area, issue, _ = args
    if shell_state.is_dispatched(area, issue):
        return EXIT_OK
    warn(harmless(f"gangline: #{issue} is not dispatched; orch_dispatch does both"))
    return _NO


def check_completion(args: list[str]) -> int:
    """Print completed, failed, running or died; 0 if that is final."""
    area = shell_cycle.area_of(args[1], Project())
    found = shell_state.standing(area, args[0])
    print(found.word)
    return EXIT_OK if found.terminal else _NO


def update_last_activity(args: list[str]) -> int:
    """Keep when the issue's agent did something last."""
    shell_state.note_activity(*args)
    return EXIT_OK


def detect_stall(args: list[str]) -> int:
    """Whether the issue's agent lives and is silent."""
    area, issue, minutes = [*args, ""][:3]
    try:
        limit = float(minutes) if minutes else None
    except ValueError:
        raise UsageError(
            f"{minutes!r} is no number of minutes", place="orch_detect_stall"
        ) from None
    if not shell_state.is_stalled(area, issue, limit):
        return _NO
    print("stalled")
    return EXIT_OK


def unblock(args: list[str]) -> int:
    """Free what waited for the issue."""
    shell_state.unblock(*args)
    return EXIT_OK


def release_pane(args: list[str]) -> int:
    """Give a pane back; 1 while its attempt may live."""
    area, what = (None, args[0]) if len(args) == 1 else (args[0], args[1].removeprefix("#"))
    why_not = shell_cycle.release(area, what)
    if why_not is None:
        return EXIT_OK
    warn(harmless(f"gangline: not released: {why_not}"))
    return _NO


def poll_cycle(args: list[str]) -> int:
    """One cycle of the loop; nothing while an orchestrator lives."""
    area, _, agent, pane = [*args, "", ""][:4]
    check_area(area)
    try:
        shell_cycle.cycle(area, agent or None, pane or None, _Said())
    except AreaBusyError as error:
        warn(harmless(f"gangline: this cycle does nothing: {error.message}"))
    return EXIT_OK


def print_summary(args: list[str]) -> int:
    """Print how the batch stands; one that is over goes into the archive (erratum 6)."""
    project = Project()
    store = shell_state.open_store(project, args[0])
    view = view_of_batch(store.batch)
    say(summary_text(view, now=wall_time()))
    advice = advice_text(view, branches_to_merge(store.batch), archived=store.batch.is_over)
    if advice:
        say(advice)
    if store.batch.is_over:
        try:
            lock = take_orchestrator_lock(project, args[0])
        except AreaBusyError:
            return EXIT_OK  # that one is about to end, and shows it once more
        try:
            _, path = archive(project, store)
        finally:
            lock.release()
        warn(f"gangline: this batch is over; it is archived in {os.path.relpath(path)}")
    return EXIT_OK


def verify_startup(args: list[str]) -> int:
    """Whether the issue's agent was started; waits as long as a launch may take."""
    area = shell_cycle.area_of(args[1], Project())
    return EXIT_OK if shell_state.wait_for_startup(area, args[0]) else _NO
