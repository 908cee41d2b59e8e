"""One area as `doctor` finds it: journal, state file, orchestrator, open attempts.

It reads what every command reads, with the same code, and mends nothing. What a start mends by
itself (a torn tail, a lagging state file, a dead orchestrator) is a note; what stops a start is
wrong. While an orchestrator lives its files change under the reader's eyes: what looks unfinished
is looked at again before it is told.
"""

import json
import time
from typing import Any

import msgspec

from gangline.app.doctor_findings import (
    Finding,
    Level,
    free_name,
    of_error,
    of_system_error,
    shell_line,
)
from gangline.app.launching import subject_of
from gangline.app.views import stop_words
from gangline.core.batch import Batch
from gangline.core.codec import StateEncoder, decode_event, decode_state, format_of, replay
from gangline.core.digest import BadLineError, digest_matches
from gangline.core.events import FORMAT_VERSION
from gangline.core.evidence import Verdict, unreadable, verdict
from gangline.core.issue import Attempt
from gangline.core.transitions import IllegalEventError
from gangline.errors import GanglineError, StateError
from gangline.hosts.attempts import AttemptFolders
from gangline.hosts.processes import living_marks
from gangline.ports import Subject
from gangline.store.area import AreaPaths
from gangline.store.batches import Store
from gangline.store.journal import Lines, check_lines
from gangline.store.locks import lock_is_held, read_holder

_LOOKS_MAX = 10
_LOOK_SECONDS = 0.02
_VERDICTS = {
    Verdict.NOT_STARTED: "its runner has not come to its claim",
    Verdict.NEVER_RAN: "it never ran, and is dispatched again",
    Verdict.REFUSED: "its runner refused to start the agent",
    Verdict.FINISHED: "it has ended, which is not recorded yet",
    Verdict.DIED: "it died",
}


class AreaReport(msgspec.Struct, frozen=True):
    """What was found of an area; `batch` is None where it cannot be read."""

    batch: Batch | None
    findings: list[Finding]


def examine_area(paths: AreaPaths) -> AreaReport:
    """Every finding about the batch of an area that has one."""
    alive = lock_is_held(paths.orchestrator_lock)
    for _ in range(_LOOKS_MAX):
        report = _look(paths)
        unfinished = any(f.level is not Level.OK for f in report.findings)
        if not (alive and unfinished):
            break
        time.sleep(_LOOK_SECONDS)  # the orchestrator may have been in the midst of writing it
    batch, findings = report.batch, report.findings
    if batch is not None:
        findings += [
            _orchestrator(paths, batch, alive),
            *_attempts(paths, batch, alive=bool(alive)),
        ]
    return AreaReport(batch, findings)


def _look(paths: AreaPaths) -> AreaReport:
    area = paths.area
    try:
        state = _read(paths.state)  # first: the journal is never behind a state file read before it
        lines = _read(paths.journal)
        store = Store(paths)
        try:
            loaded = store.load()
        finally:
            store.close()
        found = check_lines(lines, offset=0, first_seq=1, path=paths.journal)
    except StateError as error:
        return AreaReport(None, [_unusable(error, paths)])
    except GanglineError as error:
        return AreaReport(None, [of_error("journal", error, area)])
    except OSError as error:
        return AreaReport(None, [of_system_error("journal", error, area)])
    if not loaded:
        message = "it has no batch: its files are empty"
        return AreaReport(None, [_finding(area, "area", Level.NOTE, message)])
    return AreaReport(store.batch, [_journal(store, found), _state_file(store, state, found)])


def _finding(
    area: str, check: str, level: Level, message: str, command: str | None = None
) -> Finding:
    return Finding(check=check, area=area, level=level, message=message, command=command)


def _run(area: str) -> str:
    return shell_line("gangline", "run", area)


def _go_on(store: Store) -> str | None:
    """The start that puts files right; none once the batch is over: that start would archive it."""
    return None if store.batch.is_over else _run(store.paths.area)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return b""


# -- the files ---------------------------------------------------------------------------------


def _unusable(error: StateError, paths: AreaPaths) -> Finding:
    """A journal or state file that stops every command; with the command, where one is enough."""
    lines = _read(paths.journal)
    version = format_of(lines.partition(b"\n")[0])
    if version is not None and version > FORMAT_VERSION:
        return of_error("journal", error, paths.area)
    where = f"{error.place}: " if error.place else ""
    if not lines:
        aside = shell_line("mv", "--", paths.state, free_name(f"{paths.state}.aside"))
        message = f"{where}{error.message} ({'; '.join(error.causes)}); mend it, or put it aside"
        return _finding(paths.area, "state-file", Level.WRONG, message, aside)
    if not _rebuilds(paths):
        return of_error("journal", error, paths.area)
    message = f"{where}{error.message}; the state file rebuilds it when it is put aside"
    command = shell_line("mv", "--", paths.journal, free_name(f"{paths.journal}.damaged"))
    return _finding(paths.area, "journal", Level.WRONG, message, command)


def _rebuilds(paths: AreaPaths) -> bool:
    """Whether the state file is ours to the byte, and so can stand in for the journal."""
    state = _read(paths.state)
    try:
        return digest_matches(state) and bool(decode_state(state).batch_id)
    except msgspec.DecodeError:
        return False


def _journal(store: Store, found: Lines) -> Finding:
    area = store.paths.area
    if not found.lines:
        message = "there is none; the next start begins it anew from the state file"
    elif found.torn and not found.heal:
        message = (
            f"{len(found.lines)} events, and {len(found.torn)} bytes of one that a crash cut "
            "short: it was never committed, and the next start drops it"
        )
    else:
        return _finding(area, "journal", Level.OK, f"{len(found.lines)} events, none damaged")
    return _finding(area, "journal", Level.NOTE, message, _go_on(store))


def _state_file(store: Store, state: bytes, found: Lines) -> Finding:
    """How the state file stands to the journal; a start puts right all but what is `wrong`."""
    paths, last = store.paths, len(found.lines)

    def told(level: Level, message: str, command: str | None = _go_on(store)) -> Finding:
        return _finding(paths.area, "state-file", level, message, command)

    if not state:
        return told(Level.NOTE, "it is missing or empty; the next start makes it from the journal")
    if not last:
        return told(Level.OK, "the batch is in it alone", None)
    try:
        content = json.loads(state)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        return told(Level.NOTE, "it is broken; the next start makes it anew from the journal")
    if not digest_matches(state):
        return told(Level.NOTE, "it was edited by hand, and the edit is not taken yet")
    seq = content.get("seq")
    if not isinstance(seq, int) or seq > last:
        message = f"it is of event {seq}, and the journal has {last}: it is of another batch"
        return told(Level.NOTE, f"{message}; the next start puts it aside and makes it anew")
    if _differs(content, found.lines[:seq]):
        aside = shell_line("mv", "--", paths.state, free_name(f"{paths.state}.aside"))
        message = "it does not say what the journal says, though nobody edited it"
        return told(Level.WRONG, f"{message}; put aside, it is made anew from the journal", aside)
    if seq < last:
        return told(Level.NOTE, f"it is of event {seq} of {last}; the next start brings it up")
    return told(Level.OK, "agrees with the journal", None)


def _differs(content: dict[str, Any], lines: list[bytes]) -> bool:
    """Whether a key that a state file and the fold of these lines both have differs.

    A key that only one has is of another version of Gangline.
    """
    batch = Batch()
    try:
        for line in lines:
            batch = replay(batch, decode_event(line))
        fold = json.loads(StateEncoder(batch).encode())
    except (BadLineError, IllegalEventError, KeyError, ValueError):
        return True
    return any(content[key] != fold[key] for key in (content.keys() & fold.keys()) - {"digest"})


# -- what lives --------------------------------------------------------------------------------


def _orchestrator(paths: AreaPaths, batch: Batch, alive: bool | None) -> Finding:
    area, again = paths.area, _run(paths.area)
    if alive is None:
        message = f"nobody can tell whether one lives: {paths.orchestrator_lock} cannot be read"
        return _finding(area, "orchestrator", Level.WRONG, message)
    if alive:
        holder = read_holder(paths.orchestrator_lock) or f"process {batch.orchestrator_pid}"
        return _finding(area, "orchestrator", Level.OK, f"alive: {holder}")
    if batch.is_over:
        return _finding(area, "orchestrator", Level.OK, "none; the batch is over")
    if batch.orchestrator_pid is not None:
        message = f"process {batch.orchestrator_pid} died; the next start resumes the batch"
    elif batch.stopped_reason is not None:
        message = f"stopped ({stop_words(batch.stopped_reason)}); the next start resumes the batch"
    else:
        message = "none; no run of Gangline has led this batch yet, and the first goes on with it"
    return _finding(area, "orchestrator", Level.NOTE, message, again)


def _attempts(paths: AreaPaths, batch: Batch, *, alive: bool) -> list[Finding]:
    """Open attempts whose runner does not live; a living orchestrator sees to its own."""
    folders = AttemptFolders(paths.folder, paths.wake)
    findings, silent, running = [], [], 0
    for key in batch.dispatched:
        issue = batch.issues[key]
        attempt = issue.attempt
        if attempt is None:
            continue
        if attempt.foreign:
            findings.append(_foreign(paths, key))
            continue
        subject = subject_of(batch, issue)
        seen = folders.read(subject)
        found = verdict(seen, kill_ordered=attempt.kill is not None)
        if found is Verdict.RUNNING:
            running += 1
        else:
            silent.append((subject, attempt, found, unreadable(seen)))
    if running:
        words = "1 runs" if running == 1 else f"{running} run"
        findings.append(_finding(paths.area, "attempt", Level.OK, words))
    if alive or not silent:
        return findings
    marks = _living({subject.mark for subject, *_ in silent})
    return findings + [_silent(paths, *each, lives=each[0].mark in marks) for each in silent]


def _foreign(paths: AreaPaths, key: str) -> Finding:
    """One that only its pane can tell of."""
    command = shell_line("gangline", "recover", paths.area, "--plan")
    message = f"issue {key} was started by the specification's shell: only its pane can tell"
    return _finding(paths.area, "attempt", Level.NOTE, message, command)


def _living(marks: set[str]) -> set[str]:
    try:
        return living_marks(marks)
    except OSError:
        return set()  # no descriptor left to look with


def _silent(
    paths: AreaPaths,
    subject: Subject,
    attempt: Attempt,
    found: Verdict,
    unread: str,
    *,
    lives: bool,
) -> Finding:
    """An open attempt without a living runner: what a start would make of it."""
    level = Level.NOTE
    if lives:
        words = "its runner is gone, but processes of it live"
    elif found is Verdict.UNKNOWN:
        level, words = Level.WRONG, f"nobody can tell how it stands: {unread or 'no answer'}"
    else:
        words = _VERDICTS[found]
    message = f"{subject.attempt_id}, dispatched {attempt.started_at}: {words}"
    return _finding(paths.area, "attempt", level, message, _run(paths.area))
