"""What a person can do to a batch at any instant: the product's own commands and edits.

A command is decided and committed under the journal lock, so for the model it is one step. It
commutes with everything that the orchestrator does outside of its transactions (nothing of that
reads the journal), so it is enough to let people speak while the orchestrator is between two
passes, is starting, or is dead.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

import msgspec
from model_fold import Commit, Frozen, check_encoding, commit_of, thaw

from gangline.app import commands
from gangline.core.batch import Batch
from gangline.core.edit import check_edit, difference, state_of
from gangline.core.events import AnyEvent, Configured
from gangline.core.model import Status
from gangline.core.usage import Limits
from gangline.errors import InputError, UsageError

_EDITED_STATUSES = (Status.PENDING, Status.COMPLETED, Status.FAILED)


class Word(NamedTuple):
    """Something that a person said, committed."""

    words: str
    commit: Commit


@lru_cache(None)
def words_of_people(frozen: Frozen) -> tuple[Word, ...]:
    """Everything that can be said now and changes something."""
    batch = thaw(check_encoding(frozen))
    said = [*_commands(batch), *_edits(batch)]
    found: dict[Frozen, Word] = {}
    for words, events in said:
        commit = commit_of(frozen, events)
        if commit.folds[-1] != frozen:
            found.setdefault(commit.folds[-1], Word(words, commit))
    return tuple(found.values())


def _commands(batch: Batch) -> Iterator[tuple[str, list[AnyEvent]]]:
    for key in batch.issues:
        for name, command in commands.ISSUE_COMMANDS.items():
            try:
                events = command(batch, key)
            except UsageError:
                continue
            if events:
                yield f"{name} {key}", events
        yield from _said(batch, key)
    if batch.policy.batch_budget != Limits():
        policy = msgspec.structs.replace(batch.policy, batch_budget=Limits())
        yield "raise the budget", [Configured(policy=policy)]
    for name, command in commands.BATCH_COMMANDS.items():
        if events := command(batch):
            yield name, events
    for kill in (False, True):
        if events := commands.stop(batch, kill=kill):
            yield "stop --kill" if kill else "stop", events


def _said(batch: Batch, key: str) -> Iterator[tuple[str, list[AnyEvent]]]:
    """One message that waits for a prompt, and the question of an agent that lives."""
    issue = batch.issues[key]
    if not batch.policy.accounts:
        return
    with suppress(UsageError):
        if not issue.messages:
            yield f"send {key}", commands.send(batch, key, "said")
    with suppress(UsageError):
        if issue.attempt is not None and not issue.attempt.asked:
            attempt_id = batch.attempt_id(key, issue.attempt.number)
            yield f"ask {key}", commands.agent_asks(batch, key, attempt_id, "which?")


def _edits(batch: Batch) -> Iterator[tuple[str, list[AnyEvent]]]:
    """Changes of the state file: a status set by hand, an edge cut, an edge drawn."""
    keys = list(batch.issues)
    changes: list[tuple[str, str, str, object]] = []
    for key in keys:
        changes += [(f"edit status.{key} = {s}", "status", key, s.value) for s in _EDITED_STATUSES]
        if batch.issues[key].depends_on:
            changes.append((f"edit dag.{key} = []", "dag", key, []))
    changes.append((f"edit dag.{keys[0]} = [{keys[-1]}]", "dag", keys[0], [int(keys[-1])]))
    for words, table, key, value in changes:
        state = state_of(batch)
        if state[table][key] == value:
            continue
        state[table][key] = value
        try:
            edit = difference(batch, state, by="file")
            if edit is None:
                continue
            check_edit(batch, edit)
        except InputError:
            continue
        yield words, [edit]
