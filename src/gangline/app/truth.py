"""The slow half of `status`: the journal folded, and the evidence of attempts nobody watches."""

import contextlib
import json
from typing import Any

from gangline.app.launching import subject_of
from gangline.app.running import no_batch
from gangline.app.views import read_progress
from gangline.app.wiring import Project
from gangline.core.batch import Batch
from gangline.core.codec import StateEncoder
from gangline.core.events import Condition
from gangline.core.evidence import Evidence, ExitRecord, Verdict, verdict
from gangline.core.issue import Attempt
from gangline.core.model import Status, check_area
from gangline.errors import GanglineError
from gangline.hosts.attempts import AttemptFolders
from gangline.hosts.local import LocalHost
from gangline.hosts.wakes import Unwatched
from gangline.ports import Subject
from gangline.store.batches import Store
from gangline.workspaces.git import run_git

_WORDS = {
    Verdict.NOT_STARTED: "its runner has not come to its claim",
    Verdict.NEVER_RAN: "never ran; it is dispatched again at the next start",
    Verdict.REFUSED: "its runner refused to start the agent",
    Verdict.RUNNING: "running",
    Verdict.DIED: "died; decided at the next start",
    Verdict.UNKNOWN: "cannot be seen now",
}


def load_store(area: str) -> Store:
    """The area's store, loaded without mending anything.

    Raises:
        UsageError: there is no such batch.
        StateError: the state cannot be read.
    """
    check_area(area)
    project = Project()
    store = project.store(area)
    if not store.load():
        raise no_batch(project, area)
    return store


def folded_state(area: str) -> dict[str, Any]:
    """The state file's contents as the journal says they are."""
    state: dict[str, Any] = json.loads(StateEncoder(load_store(area).batch).encode())
    return state


def add_evidence(view: dict[str, Any], area: str) -> None:
    """Say of each open attempt how it stands, though nobody has recorded it yet."""
    store = load_store(area)
    folders = AttemptFolders(store.paths.folder, store.paths.wake)
    for issue in view["issues"]:
        state = store.batch.issues[str(issue["id"])]
        attempt = state.attempt
        if issue["status"] != "dispatched" or attempt is None:
            continue
        subject = subject_of(store.batch, state)
        seen = (
            _look_at_foreign(area, folders, subject) if attempt.foreign else folders.read(subject)
        )
        found = verdict(seen, kill_ordered=attempt.kill is not None)
        issue["verdict"] = found.value
        issue["seen"] = _WORDS.get(found) or _end_words(seen)
        if found is Verdict.UNKNOWN and attempt.foreign:
            continue  # what was asked of a person is still to be answered
        _add_condition(issue, attempt, found, folders.path(subject.attempt_id))


def _add_condition(issue: dict[str, Any], attempt: Attempt, found: Verdict, folder: str) -> None:
    """Keep of the recorded condition what still holds though nobody watches."""
    parked = attempt.condition is Condition.LIMITED
    if parked and found in (Verdict.FINISHED, Verdict.DIED):
        issue["seen"] = "parked; it goes on with the first run after that"
        return
    if found is not Verdict.RUNNING:
        issue["condition"] = None
    elif attempt.condition is Condition.NEEDS_INPUT and not attempt.asked:
        asks = read_progress(folder).get("needs")
        issue["condition"] = "needs-input" if asks else "working"
    if issue["condition"] in (None, "working"):
        issue["question"], issue["until"] = None, None


def _look_at_foreign(area: str, folders: AttemptFolders, subject: Subject) -> Evidence:
    """What the pane tells of an attempt that the specification's shell started."""
    project = Project()
    host = LocalHost(folders, project.tmux(), "", project.owner(area), Unwatched())
    return host.probe([subject])[subject.issue]


def _end_words(seen: Evidence) -> str:
    if seen.foreign is not None:
        return f"its signal file says {seen.signal.value}; not yet recorded"
    record = seen.exit or ExitRecord()
    return f"ended with exit code {record.code}; not yet recorded"


def branches_to_merge(batch: Batch) -> list[str]:
    """Branches of completed issues with commits that neither the base nor HEAD has; one git call.

    In the order of the issues. Empty also where git cannot tell: it only feeds a hint.
    """
    done = [i.attempt for i in batch.issues.values() if i.status is Status.COMPLETED]
    wanted = [attempt.branch for attempt in done if attempt and attempt.branch]
    place = Project().place
    if not wanted or not batch.base_commit or place.git_dir is None:
        return []
    listing = ["for-each-ref", "--format=%(refname:lstrip=2)"]
    unmerged = [f"--no-merged={batch.base_commit}", "--no-merged=HEAD", "refs/heads/"]
    with contextlib.suppress(GanglineError):
        answer = run_git([*listing, *unmerged], place.top)
        if answer.code == 0:
            there = set(answer.output.splitlines())
            return [branch for branch in wanted if branch in there]
    return []
