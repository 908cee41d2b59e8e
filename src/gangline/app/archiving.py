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
    """The panes that were kept to be read go with their batch."""
    tmux = project.tmux()
    try:
        server = tmux.server()
        there = {pane.pane for pane in tmux.panes()} if server else set()
        attempts = [attempt for issue in batch.issues.values() for attempt in issue.attempts]
        for attempt in attempts:
            pane = attempt.pane
            if server and pane in there and tmux.pane_is(pane, server, attempt.mark):
                tmux.kill_pane(pane, server)
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
