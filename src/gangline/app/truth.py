"""The slow half of `status`: the journal folded, and the evidence of attempts nobody watches."""

import json
from typing import Any

from gangline.app.running import no_batch
from gangline.app.wiring import Project
from gangline.core.codec import StateEncoder
from gangline.core.evidence import ExitRecord, Verdict, verdict
from gangline.core.model import check_area
from gangline.hosts.attempts import AttemptFolders
from gangline.ports import Subject
from gangline.store.batches import Store

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
        subject = Subject(
            attempt_id=store.batch.attempt_id(state.key, attempt.number),
            issue=state.key,
            number=attempt.number,
            mark=attempt.mark,
            started_at=attempt.started_at,
            server=attempt.server,
        )
        seen = folders.read(subject)
        found = verdict(seen, kill_ordered=attempt.kill is not None)
        issue["verdict"] = found.value
        record = seen.exit or ExitRecord()
        issue["seen"] = _WORDS.get(found) or f"ended with exit code {record.code}; not yet recorded"
        issue["condition"] = "working" if found is Verdict.RUNNING else None
