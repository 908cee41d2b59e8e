"""The end of a batch: it goes into the archive, whole, and what was kept to be read goes with it.

Nothing is deleted: `rm -rf` of the area would take the only record of what happened (erratum 6).
"""

from gangline.app.orchestrate import exit_code
from gangline.app.wiring import Project
from gangline.core.batch import Batch
from gangline.errors import StateError
from gangline.hosts.tmux_control import TmuxError
from gangline.store.batches import Store


def archive(project: Project, store: Store) -> tuple[int, str]:
    """Put a batch that is over into the archive; its exit code and where it is now.

    The caller holds the orchestrator lock.

    Raises:
        StateError: an attempt may still live, or somebody changed the batch meanwhile.
    """
    check_archivable(store.batch)
    code = exit_code(store.batch)
    _close_kept_panes(project, store.batch)
    return code, store.archive()


def _close_kept_panes(project: Project, batch: Batch) -> None:
    """The panes that were kept to be read go with their batch.

    They are known by their marks: the pane of an attempt may never have been recorded (a kill just
    after the launch). An attempt of a person's own pane has no mark, and its pane stays.
    """
    tmux = project.tmux()
    attempts = [attempt for issue in batch.issues.values() for attempt in issue.attempts]
    marks = [attempt.mark for attempt in attempts if attempt.mark]
    try:
        server = tmux.server()
        for pane in tmux.panes() if server else ():
            mark = next((mark for mark in marks if mark in pane.start_command), None)
            if server and mark and tmux.pane_is(pane.pane, server, mark):
                tmux.kill_pane(pane.pane, server)
        name = tmux.find_session(f"gangline-{batch.area}", project.owner(batch.area))
        if name and tmux.other_windows(name) == 0:
            tmux.kill_session_if_ours(name, project.owner(batch.area))
    except TmuxError:
        return  # they stay until their server ends


def check_archivable(batch: Batch) -> None:
    """Raises StateError while any attempt is neither void nor ended."""
    for issue in batch.issues.values():
        for attempt in issue.attempts:
            if attempt.outcome is None:
                raise StateError(
                    f"attempt {batch.attempt_id(issue.key, attempt.number)} may still live",
                    hint=f"gangline run {batch.area} finds out",
                )
