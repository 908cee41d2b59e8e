"""What a state file means that is not ours to the byte: an edit, mere lag, a torn file or nonsense.

The file is an interface that people and scripts write to; whatever is found in it, nothing is lost.
What cannot be taken is kept beside it under a name of its own, and the reason is said.
"""

import os
import re
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from gangline.core.adopt import adopted, is_bare
from gangline.core.batch import Batch
from gangline.core.codec import StateEncoder, replay
from gangline.core.digest import digest_matches
from gangline.core.edit import check_edit, difference, state_of
from gangline.core.events import Edited
from gangline.errors import GanglineError, InputError, StateError
from gangline.store.journal import events_from

Check = Callable[[Edited], None]

_SEQ = re.compile(rb'"seq":(\d{1,18}),')


class Judgement(NamedTuple):
    """What to do about a state file.

    Attributes:
        edit: To be recorded; None if it changes nothing.
        refusal: Why it cannot be taken: it is kept beside, and the true state put back.
        alarming: The refusal concerns a person (exit 4); else it is only reported.
    """

    edit: Edited | None = None
    refusal: InputError | None = None
    alarming: bool = True


def judge(data: bytes, newest: Batch, journal: str, check: Check | None) -> Judgement:
    """Judge a state file that is not byte for byte the fold; the journal lock is held.

    Args:
        data: The file's bytes.
        newest: The fold of the whole journal.
        journal: Its path.
        check: Refuses edits for reasons that only the settings know.
    """
    if digest_matches(data):
        return _judge_whole(data, newest)
    if not data.strip(b"\0 \n") or _is_torn(data, newest, journal):
        return Judgement()  # a crash of the machine left it so; the journal has everything
    if _was_adopted(data, newest, journal):
        return Judgement()  # a crash came between its adoption and its replacement
    try:
        state = _decode(data)
        base = _base_of(state, newest, journal)
        edit = difference(base, state, by="file")
        if edit is not None and _was_taken(edit, base.seq, journal):
            return Judgement()  # a crash came between its commit and the replacement of the file
        if edit is not None:
            check_edit(newest, edit, base)
            if check is not None:
                check(edit)
    except GanglineError as error:
        return Judgement(refusal=_as_input(error))
    return Judgement(edit=edit)


def _as_input(error: GanglineError) -> InputError:
    return InputError(error.message, place=error.place, causes=error.causes, hint=error.hint)


def _judge_whole(data: bytes, newest: Batch) -> Judgement:
    """A file as some Gangline wrote it: lagging, or not of this journal."""
    state = msgspec.json.decode(data)
    if state.get("batchId") == newest.batch_id and state.get("seq", 0) <= newest.seq:
        return Judgement()
    why = "is of another batch, or tells of events that the journal has lost"
    return Judgement(refusal=InputError(f"it {why}"), alarming=False)


def _decode(data: bytes) -> dict[str, object]:
    try:
        state = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"it is no JSON: {error}") from error
    except RecursionError:
        raise InputError("it is nested too deep") from None
    if not isinstance(state, dict):
        raise InputError("it is no JSON object")
    return state


def _base_of(state: dict[str, object], newest: Batch, journal: str) -> Batch:
    """The fold that the text was made from."""
    seq = state.get("seq")
    if state.get("batchId") != newest.batch_id:
        raise InputError(f"it is of batch {state.get('batchId')!r}, not of {newest.batch_id}")
    if type(seq) is not int or not 1 <= seq <= newest.seq:
        raise InputError(f"its seq is {seq!r}; the journal has events 1 to {newest.seq}")
    return fold_at(journal, seq)


def fold_at(journal: str, seq: int) -> Batch:
    """The fold of the first so many events of a journal that was just checked."""
    batch = Batch()
    for event in events_from(journal, 0)[:seq]:
        batch = replay(batch, event)
    return batch


def _was_taken(edit: Edited, seq: int, journal: str) -> bool:
    """Whether the same change of the same text is in the journal already."""
    return any(
        isinstance(event, Edited) and msgspec.structs.replace(event, seq=0, at="") == edit
        for event in events_from(journal, 0)[seq:]
    )


def _is_torn(data: bytes, newest: Batch, journal: str) -> bool:
    """Whether it is the beginning of what we wrote once: it is not synced."""
    ends_whole, data = data.endswith(b"}\n"), data.rstrip(b"\0")
    found = _SEQ.search(data)
    if found is None:
        head, key, _ = StateEncoder(fold_at(journal, 1)).encode().partition(b'"seq":')
        text = data.rstrip(b"\0")  # it ends before its number, or within it
        number = text.removeprefix(head + key)
        return (head + key).startswith(text) or (number != text and number.isdigit())
    seq = int(found[1])
    if not 1 <= seq <= newest.seq or ends_whole:
        return False
    return StateEncoder(fold_at(journal, seq)).encode().startswith(data)


def _was_adopted(data: bytes, newest: Batch, journal: str) -> bool:
    """Whether it is the text of the specification's shell that the journal was begun from."""
    if not is_bare(data):
        return False
    first = fold_at(journal, 1)
    try:
        found = adopted(data, newest.area, first.policy)
    except InputError:
        return False
    found.seq, found.updated_at = first.seq, first.updated_at
    return state_of(found) == state_of(first)


def keep_beside(path: str) -> str:
    """Give a file that is about to be replaced a second name; its base name."""
    number = 1
    while True:
        kept = f"{path}.rejected-{number}"
        try:
            os.link(path, kept)
        except FileExistsError:
            number += 1
        else:
            return os.path.basename(kept)


def refused(error: InputError, path: str, kept: str | None, area: str) -> StateError:
    """What a person is told of an edit that was not taken, or, without `kept`, will not be."""
    done = (
        f"the changed text is kept as {kept}, the true state is put back"
        if kept
        else "the next start keeps the changed text beside it and puts the true state back"
    )
    return StateError(
        f"the state file was changed, and the change cannot be taken: {error.message}",
        place=error.place or path,
        causes=[*error.causes, done],
        hint=error.hint or f"change it again, or go on without: gangline run {area}",
    )


def edited_at(found: os.stat_result) -> str:
    """When a file was changed: UTC, ISO 8601."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(found.st_mtime))
    return f"{whole}.{found.st_mtime_ns // 1_000_000 % 1000:03d}Z"
