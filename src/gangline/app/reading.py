"""A state read as far as it can be, damaged or not: no lock is taken, nothing mended or written.

A start reads by store.batches, and stops at damage. Here the same store is asked first, so that
what it says of a torn line or a lost journal is said here as well; where it stops, what stands
before the damage is folded, for people to look at and never to go on from.
"""

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from gangline.app.running import no_batch
from gangline.app.wiring import Project
from gangline.core.batch import Batch
from gangline.core.codec import (
    BadLineError,
    check_line,
    decode_event,
    decode_state,
    format_of,
    line_seq,
    replay,
)
from gangline.core.digest import digest_matches
from gangline.core.events import FORMAT_VERSION
from gangline.core.graph import find_cycle
from gangline.core.transitions import IllegalEventError
from gangline.errors import GanglineError, InputError, StateError
from gangline.store.area import AreaPaths
from gangline.store.batches import Store
from gangline.store.edits import Check, Judgement, judge, refused
from gangline.store.journal import check_lines, journal_bytes


class Reading(NamedTuple):
    """What a journal tells.

    Attributes:
        batch: The fold of all lines before the problem; empty (no batch id) if there are none.
        problem: What is wrong with the journal, with its line and byte; None if nothing is.
    """

    batch: Batch
    problem: StateError | None


def read_journal(path: str) -> Reading:
    """Fold a journal as far as it can be read; a line that a crash cut short does not count."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        why = StateError(f"the journal cannot be read: {error.strerror}", place=path)
        return Reading(Batch(), why)
    try:
        lines, problem = check_lines(data, offset=0, first_seq=1, path=path).lines, None
    except StateError as error:
        lines, problem = _lines_before_damage(data), error
    batch, wrong = _fold(lines, path)
    if not lines and problem is None:
        wrong = StateError("the journal is empty", place=path)
    return Reading(batch, problem or wrong)


def _lines_before_damage(data: bytes) -> list[bytes]:
    """The whole lines up to the first that is not; none of a format that is not known."""
    lines: list[bytes] = []
    for line in data.split(b"\n"):
        try:
            check_line(line)
        except BadLineError:
            break
        if line_seq(line) != len(lines) + 1:
            break
        lines.append(line)
    newer = bool(lines) and (format_of(lines[0]) or 0) > FORMAT_VERSION
    return [] if newer else lines


def _fold(lines: Iterable[bytes], path: str) -> tuple[Batch, StateError | None]:
    batch = Batch()
    for number, line in enumerate(lines, 1):
        try:
            batch = replay(batch, decode_event(line))
        except (IllegalEventError, KeyError, ValueError, msgspec.DecodeError) as error:
            problem = StateError(
                f"the journal holds an event that cannot follow what is before it: {error}",
                place=f"{path}: line {number}",
            )
            return batch if number > 1 else Batch(), problem
    return batch, None


class State(NamedTuple):
    """What can be known of an area's batch.

    Attributes:
        batch: The fold; of a broken state what stands before the damage, perhaps nothing.
        problems: Why a start refuses it.
        notes: What a start makes of its files, a sentence each.
        read_texts: Reads the issues' texts; raises StateError where a dispatch could not.
    """

    batch: Batch
    problems: list[GanglineError]
    notes: list[str]
    read_texts: Callable[[], object]


def read_state(project: Project, area: str) -> State:
    """The area's batch, and what is wrong with its files.

    Raises:
        UsageError: there is no such batch.
    """
    store = project.store(area)
    paths = store.paths
    try:
        if not store.load():
            raise no_batch(project, area)
        problems: list[GanglineError] = []
        notes = [*store.reports, *_state_file_notes(paths, store, project.check_edit, problems)]
        return State(store.batch, problems, notes, store.read_issues)
    except (StateError, InputError) as error:
        problem: GanglineError = error
    except OSError as error:
        problem = StateError(
            f"the state cannot be read: {error.strerror}",
            place=os.fsdecode(error.filename) if error.filename else paths.folder,
            hint="mend the file or its permissions; nothing is written over",
        )
    finally:
        store.close()
    batch = read_journal(paths.journal).batch
    problems, notes = [problem], []
    if not journal_bytes(paths.journal):
        batch, cycle = _without_cycles(paths)
        problems += [cycle] if cycle and "cycle" not in _text(problem) else []
    elif batch.batch_id:
        notes.append(f"only the {batch.seq} events before the damage can be read here")
        notes += _whole_state_file(paths, batch)
    return State(batch, problems, notes, dict)


def _text(error: GanglineError) -> str:
    return " ".join([error.message, *error.causes])


def _state_file_notes(
    paths: AreaPaths, store: Store, check: Check, problems: list[GanglineError]
) -> list[str]:
    """What the next run makes of the state file beside a whole journal.

    A change by hand that it is going to take is folded into the batch; one that it refuses is added
    to the problems.
    """
    try:
        with open(paths.state, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return ["the state file is missing: it is made anew from the journal"]
    if not journal_bytes(paths.journal):
        return []  # what becomes of it then is among the store's reports
    if not digest_matches(data):
        return _edited_file_notes(judge(data, store.batch, paths.journal, check), store, problems)
    try:
        found = decode_state(data)
    except msgspec.DecodeError:
        return ["the state file is not one that this version knows; the journal decides"]
    if found.batch_id != store.batch.batch_id or found.seq > store.batch.seq:
        return ["the state file is not of this journal: it is put aside, and made anew"]
    if found.seq < store.batch.seq:
        late = store.batch.seq - found.seq
        events = "1 event" if late == 1 else f"{late} events"
        return [f"the state file lags {events} behind the journal: it is made anew"]
    return []


def _edited_file_notes(found: Judgement, store: Store, problems: list[GanglineError]) -> list[str]:
    if found.refusal is not None:
        area = store.paths.area
        problems.append(refused(found.refusal, store.paths.state, None, area))
        return ["the state file was changed by hand; the next start refuses the change"]
    if found.edit is None:
        return ["the state file was cut short or written anew: it is made anew from the journal"]
    store.batch.fold(found.edit)
    return ["the state file was changed by hand: the change is taken first, and is counted here"]


def _whole_state_file(paths: AreaPaths, batch: Batch) -> list[str]:
    """Beside a damaged journal: whether the state file tells more."""
    try:
        with open(paths.state, "rb") as file:
            data = file.read()
        found = decode_state(data) if digest_matches(data) else Batch()
    except (OSError, msgspec.DecodeError):
        found = Batch()
    if found.batch_id != batch.batch_id or found.seq < batch.seq:
        return ["the state file beside it cannot be used"]
    return [f"the state file beside it is whole and tells of {found.seq} events"]


def _without_cycles(paths: AreaPaths) -> tuple[Batch, StateError | None]:
    """The batch of a state file whose graph has cycles, an edge of each left out; and the first."""
    problem = None
    try:
        with open(paths.state, "rb") as file:
            raw = msgspec.json.decode(file.read())
        dag = {str(key): [str(other) for other in edges] for key, edges in raw["dag"].items()}
        while cycle := find_cycle(dag):
            dag[cycle[0]].remove(cycle[1])
            problem = problem or StateError(
                f"the dependencies form a cycle: {' -> '.join(cycle)}",
                place=f"{paths.state}: $.dag",
                hint=f"take one of its edges out, such as {cycle[1]} from dag[{cycle[0]!r}]",
            )
        return decode_state(msgspec.json.encode({**raw, "dag": dag})), problem
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return Batch(), problem
