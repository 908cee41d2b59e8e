"""Whether a next attempt goes on with the session of an earlier one, and what its agent is told.

A conversation that a crash cut off is worth more than a fresh start, but only where the agent can
take it up again for certain. Whoever goes on, or starts where another has been, is told so: a tool
that was in flight may have been run, or half (EVIDENCE.md section 4, pitfall c).
"""

import uuid
from itertools import takewhile
from typing import NamedTuple

from gangline.agents.placeholders import clean_text
from gangline.agents.registry import Agent, can_resume
from gangline.core.events import Outcome
from gangline.core.issue import Attempt, IssueState

_NEVER_RAN = (Outcome.VOID, Outcome.REFUSED)
# Cut off from outside. What ended by itself, and is tried again, had better start anew.
_CUT_OFF = (Outcome.DIED, Outcome.LIMITED, Outcome.KILLED)
_LOOK_FIRST = """\
Look at the folder before you do anything (git status, git log, git diff): what was in flight then
may be done, half done, or not done at all. Do not do twice what is done."""
_GO_ON = """\
Then finish issue {issue} and commit your work on the current branch. What is not committed does not
count."""


class SessionPlan(NamedTuple):
    """What the next attempt does about sessions.

    Attributes:
        session: The id to go on with, or a new one for agents that take theirs from us, or "".
        resumed: It goes on.
        afresh: Why it does not, though something was cut off; None if there is nothing to say.
    """

    session: str
    resumed: bool
    afresh: str | None


def plan_session(issue: IssueState, agent: Agent) -> SessionPlan:
    """Decide over the session of the issue's next attempt.

    Args:
        issue: With its attempts so far.
        agent: Who is going to run, with the commands of its mode.
    """
    new = str(uuid.uuid4()) if agent.session == "ours" else ""
    before = last_that_ran(issue)
    if before is not None and before.outcome is Outcome.SESSION_LOST:
        return SessionPlan(new, False, "its session is not there any more")
    if before is None or not (before.outcome in _CUT_OFF or issue.messages):
        return SessionPlan(new, False, None)
    if before.foreign or before.agent != agent.name:
        why = f"its agent was {before.agent or 'another'}"
    elif agent.prompt == "none" or agent.resume is None:
        why = f"{agent.name} cannot go on with a session"
    elif not before.session:
        why = "the id of its session was never seen"
    elif not can_resume(agent, before.session):
        why = "the id of its session cannot be used"
    else:
        return SessionPlan(before.session, True, None)
    return SessionPlan(new, False, None if agent.prompt == "none" else why)


def last_that_ran(issue: IssueState) -> Attempt | None:
    """The newest attempt whose agent was executed."""
    return next(reversed(_that_ran(issue)), None)


def _that_ran(issue: IssueState) -> list[Attempt]:
    return [a for a in issue.attempts if a.outcome not in (None, *_NEVER_RAN)]


def _said_in_vain(issue: IssueState) -> list[Attempt]:
    """The newest attempts that were cut off before they were heard of: their prompts may be unread.

    Told again, a message may be known already; not told again, it may be lost.
    """
    newest_first = reversed(_that_ran(issue))
    return list(takewhile(lambda a: a.unheard and a.outcome in _CUT_OFF, newest_first))[::-1]


def prompt_of(issue: IssueState, plan: SessionPlan, first: str) -> str:
    """What the agent is told.

    Args:
        issue: With what a person said meanwhile.
        plan: Whether it goes on. Who starts afresh knows nothing of what was said before.
        first: The prompt of a first attempt.
    """
    before = last_that_ran(issue)
    earlier = _said_in_vain(issue) if plan.resumed else issue.attempts
    texts = [text for attempt in earlier for text in attempt.messages]
    said = [f"A person says:\n\n{text}" for text in [*texts, *issue.messages]]
    if before is None:
        return clean_text("\n\n".join([first.rstrip("\n"), *said]) + "\n") if said else first
    how = (before.reason or before.outcome or "it was cut off").rstrip(".")
    go_on = _GO_ON.format(issue=issue.key)
    if plan.resumed and before.outcome not in _CUT_OFF:
        parts = [*said, go_on]
    elif plan.resumed:
        parts = [f"You were cut off: {how}. You go on now.", _LOOK_FIRST, *said, go_on]
    else:
        note = f"An earlier attempt at this issue has ended: {how}. Its work may be in this folder."
        parts = [first.rstrip("\n"), note, _LOOK_FIRST, *said]
    return clean_text("\n\n".join(parts) + "\n")
