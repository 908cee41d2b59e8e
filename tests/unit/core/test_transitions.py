"""The one table of legal transitions: every row, and every pair that is no row."""

from itertools import product

import pytest
from core_builders import Story, snapshot

from gangline.core.events import (
    Blocked,
    Cancelled,
    Dispatched,
    Ended,
    Held,
    KillOrdered,
    KillReason,
    Launched,
    Outcome,
    Reaping,
    Refused,
    Released,
    Reopened,
    Retried,
    Skipped,
    Unblocked,
    Voided,
    Wish,
    Wished,
)
from gangline.core.model import TERMINAL, Status
from gangline.core.transitions import IllegalEventError, next_status

S = Status


def voided(to: Status) -> Voided:
    return Voided(issue="1", attempt=0, reason="", to=to)


def ended(to: Status) -> Ended:
    return Ended(issue="1", attempt=0, outcome=Outcome.DIED, to=to)


EVENTS = {
    "unblocked": Unblocked(issue="1"),
    "blocked": Blocked(issue="1"),
    "skipped": Skipped(issue="1"),
    "cancelled": Cancelled(issue="1"),
    "retried": Retried(issue="1"),
    "reopened": Reopened(issue="1", because="2"),
    "held": Held(issue="1"),
    "released": Released(issue="1"),
    "refused": Refused(issue="1", reason=""),
    "dispatched": Dispatched(
        issue="1", attempt=7, mark="m", retry=0, boot_id="b", boot_seconds=0.0
    ),
    "launched": Launched(issue="1", attempt=0, pane="%1"),
    "wished": Wished(issue="1", wish=Wish.SKIP),
    "kill-ordered": KillOrdered(
        issue="1", attempt=0, why=KillReason.STOP, boot_id="b", boot_seconds=0.0
    ),
    "reaping": Reaping(issue="1", attempt=0, boot_seconds=0.0),
    **{f"voided to {to}": voided(to) for to in S},
    **{f"ended to {to}": ended(to) for to in S},
}

_LEAVING = [S.PENDING, S.COMPLETED, S.FAILED, S.SKIPPED, S.CANCELLED]
LEGAL = {
    (S.BLOCKED, "unblocked"): S.PENDING,
    (S.PENDING, "blocked"): S.BLOCKED,
    (S.PENDING, "skipped"): S.SKIPPED,
    (S.BLOCKED, "skipped"): S.SKIPPED,
    (S.PENDING, "cancelled"): S.CANCELLED,
    (S.BLOCKED, "cancelled"): S.CANCELLED,
    (S.PENDING, "refused"): S.FAILED,
    (S.PENDING, "dispatched"): S.DISPATCHED,
    (S.DISPATCHED, "launched"): S.DISPATCHED,
    (S.DISPATCHED, "wished"): S.DISPATCHED,
    (S.DISPATCHED, "kill-ordered"): S.DISPATCHED,
    (S.DISPATCHED, "reaping"): S.DISPATCHED,
    **{(S.DISPATCHED, f"voided to {to}"): to for to in _LEAVING},
    **{(S.DISPATCHED, f"ended to {to}"): to for to in _LEAVING},
    **{(status, "retried"): S.BLOCKED for status in S if status in TERMINAL},
    (S.SKIPPED, "reopened"): S.BLOCKED,
    **{
        (status, mark): status
        for status in (S.PENDING, S.BLOCKED, S.DISPATCHED)
        for mark in ("held", "released")
    },
}
ILLEGAL = [pair for pair in product(S, EVENTS) if pair not in LEGAL]


def story_in(status: Status) -> Story:
    """Issue 1 brought into the status by legal events."""
    story = Story({"2": (), "1": ("2",)})
    if status is S.BLOCKED:
        return story
    story.record(Unblocked(issue="1"))
    if status is S.SKIPPED:
        story.record(Skipped(issue="1"))
    elif status is S.CANCELLED:
        story.record(Cancelled(issue="1"))
    elif status is not S.PENDING:
        story.dispatch("1")
        if status is not S.DISPATCHED:
            story.record(ended(status))
    return story


@pytest.mark.parametrize(("current", "name"), LEGAL, ids=str)
def test_legal_row(current, name):
    story = story_in(current)
    story.record(EVENTS[name])
    assert story.issue().status is LEGAL[current, name]
    assert next_status(current, EVENTS[name]) is LEGAL[current, name]


@pytest.mark.parametrize(("current", "name"), ILLEGAL, ids=str)
def test_anything_else_is_refused_and_changes_nothing(current, name):
    story = story_in(current)
    before, seq = snapshot(story.batch), story.batch.seq
    with pytest.raises(IllegalEventError) as caught:
        story.record(EVENTS[name])
    assert (caught.value.current, caught.value.event.issue) == (current, "1")
    assert "(issue 1)" in str(caught.value)
    assert (snapshot(story.batch), story.batch.seq) == (before, seq)


@pytest.mark.parametrize(
    "name", [n for (s, n) in LEGAL if s is S.DISPATCHED and hasattr(EVENTS[n], "attempt")]
)
def test_an_event_of_an_attempt_that_is_not_open_is_refused_and_changes_nothing(name):
    story = story_in(S.DISPATCHED)
    story.record(voided(S.PENDING))
    story.dispatch("1")  # attempt 1 is open now
    before = snapshot(story.batch)
    with pytest.raises(ValueError, match="has no open attempt 0"):
        story.record(EVENTS[name])
    assert snapshot(story.batch) == before


def test_an_event_of_an_unknown_issue_is_refused_and_changes_nothing():
    story = Story()
    before = snapshot(story.batch)
    with pytest.raises(KeyError):
        story.record(Held(issue="77"))
    assert snapshot(story.batch) == before
