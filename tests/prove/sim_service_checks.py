"""What must hold of limits, budgets, stalls, sessions and messages, beside the five promises.

What is recorded is held against what only the agents know (sim_service.Talk). That a limited
attempt is charged nothing, that nothing is dispatched over the batch's budget, and that no message
stays behind, is in the promises (promises.py).
"""

from gangline.core.events import (
    ConditionChanged,
    Dispatched,
    Edited,
    Ended,
    KillOrdered,
    KillReason,
    Outcome,
    Sent,
    StopFinished,
    StopRequested,
    Wished,
)
from gangline.core.model import Status

_IN_A_ROW_MAX = 12  # attempts of one issue that meet the limit: else the service is hammered
_SECONDS = 1.0  # that a commit comes after the look that it rests on


class ServiceChecks:
    """The checkers of one history; they see every committed event, in order."""

    def __init__(self, world, machine, service):
        self.world, self.machine, self.service = world, machine, service
        self.batch_id = "b1"
        self.forget()

    def forget(self):
        """The journal was lost, and what was said with it."""
        self.said = {}  # message -> issue, seq
        self.given = {}  # issue -> messages that its agents were told
        self.intents = {}  # attempt id -> its intent, seq
        self.limited = {}  # issue -> account, until, of its open attempt
        self.unheard = {}  # issue -> what may be said again: nothing was heard of who was told
        self.waits_at = {}  # attempt id -> boot seconds at which it was found to wait, or None
        self.wished = set()  # issues about whose attempt somebody decided
        self.kills = {}  # attempt id -> why it was ended
        self.in_a_row = {}  # issue -> attempts that met the limit
        self.is_killing = False

    # -- what is recorded ----------------------------------------------------------------------

    def saw(self, event, *, is_new):
        """One committed event; not `is_new`: its writer died before it was sure."""
        if not self.service.is_on:
            return
        match event:
            case Sent(typed=False):
                self.said[event.text] = (event.issue, event.seq)
            case Dispatched():
                self._dispatched(event, is_new)
            case ConditionChanged():
                self._condition_changed(event, is_new)
            case Wished():
                self.wished.add(event.issue)
            case Edited():
                self.wished.update(event.wishes)
            case KillOrdered():
                self._killed(event)
            case Ended():
                self._ended(event, is_new)
            case StopRequested(kill=True):
                self.is_killing = True
            case StopFinished():
                self.is_killing = False

    def _attempt(self, event):
        return f"{self.batch_id}-{event.issue}-a{event.attempt}"

    def _dispatched(self, event, is_new):
        self.intents[self._attempt(event)] = event
        self.wished.discard(event.issue)
        for issue, (account, until) in self.limited.items():
            early = is_new and self.machine.looked_at < until
            if account == event.account and early:
                self.world.fail(
                    f"{event.issue} is dispatched, and {issue} of the same account is limited"
                )

    def _condition_changed(self, event, is_new):
        attempt_id = self._attempt(event)
        self.limited.pop(event.issue, None)
        if event.until is not None:
            intent = self.intents.get(attempt_id)
            self.limited[event.issue] = (intent and intent.account, event.until)
        if event.waits:  # of one whose writer died before it was sure: nobody knows when
            at = self.world.boot_seconds() if is_new else None
            self.waits_at.setdefault(attempt_id, at)
        talk = self.service.agents.get(attempt_id)
        if event.asked and (talk is None or event.text not in talk.questions):
            self.world.fail(f"{attempt_id} is said to ask what it never asked: {event.text}")

    def _killed(self, event):
        attempt_id = self._attempt(event)
        self.kills[attempt_id] = event.why
        talk = self.service.agents.get(attempt_id)
        if event.why is KillReason.LIMIT and not (talk and talk.met_limit):
            self.world.fail(f"{attempt_id} is ended for a limit that it never met")
        # An agent that has ended while its runner is held up moves no more either.
        ended = attempt_id in self.machine.witness.codes
        if event.why is KillReason.STALL and not ended and not (talk and talk.has_stalled):
            self.world.fail(f"{attempt_id} is ended for a stall, and it moved all the time")

    def _ended(self, event, is_new):
        attempt_id = self._attempt(event)
        limit = self.limited.pop(event.issue, None)
        if event.outcome is Outcome.SESSION_LOST and attempt_id in self.service.agents:
            given = self.given.setdefault(event.issue, set())  # a lost journal forgets it
            given -= self.service.agents[attempt_id].texts
        self._heard(event, attempt_id)
        self._check_seconds(event, attempt_id)
        # Of one that a lost journal told of nobody knows what was decided.
        decided = event.issue in self.wished or self.is_killing or attempt_id not in self.intents
        signalled = f"{attempt_id}/signal" in self.machine.witness.codes
        self.wished.discard(event.issue)
        if not decided and not signalled:
            self._check_outcome(event, attempt_id)
        if event.outcome is not Outcome.LIMITED:
            self.in_a_row.pop(event.issue, None)
            return
        count = self.in_a_row[event.issue] = self.in_a_row.get(event.issue, 0) + 1
        if count > _IN_A_ROW_MAX:
            self.world.fail(f"{event.issue} has met the limit {count} times in a row")
        if decided:
            return
        if limit is None:
            self.world.fail(f"{attempt_id} was limited, and was never parked")
        elif is_new and self.machine.looked_at < limit[1]:
            self.world.fail(f"{attempt_id} goes on before its limit ends")

    def _heard(self, event, attempt_id):
        """What one was told that was cut off before a word of it came may be told again."""
        launch = self.service.launches.get(attempt_id)
        if launch is None or event.session or not launch.resumed:
            self.unheard.pop(event.issue, None)
        elif talk := self.service.agents.get(attempt_id):
            self.unheard[event.issue] = self.unheard.get(event.issue, set()) | talk.texts

    def _check_outcome(self, event, attempt_id):
        """Limits, lost sessions and budgets are told from failures and deaths."""
        talk = self.service.agents.get(attempt_id)
        kill = self.kills.get(attempt_id)
        met, limited, lost = (
            (talk.met_limit, talk.limited, talk.lost) if talk else (False, False, False)
        )
        is_failure = event.outcome is Outcome.FAILED and kill is None
        untrue = is_failure and (limited or lost)
        untrue |= event.outcome is Outcome.LIMITED and not met
        untrue |= event.outcome is Outcome.SESSION_LOST and not lost
        if kill is KillReason.LIMIT:
            untrue |= event.outcome is not Outcome.LIMITED
        elif kill is KillReason.BUDGET and event.outcome is not Outcome.LIMITED:
            untrue |= event.to is not Status.FAILED or "budget" not in (event.reason or "")
        if untrue:
            record = self.machine.witness.codes.get(attempt_id)
            self.world.fail(
                f"{attempt_id} is recorded as {event.outcome}, {event.to} ({event.reason}): its "
                f"agent met a limit: {met}, lost its session: {lost}, was ended for {kill}: "
                f"{record}"
            )

    def _check_seconds(self, event, attempt_id):
        """While it only waits nothing is used up."""
        waits_at, intent = self.waits_at.get(attempt_id), self.intents.get(attempt_id)
        if waits_at is None or intent is None or event.usage is None:
            return
        lived = waits_at - intent.boot_seconds
        if event.usage.seconds > max(0.0, lived) + _SECONDS:
            self.world.fail(
                f"{attempt_id} is said to have lived {event.usage.seconds:.0f} s, and waited after "
                f"{lived:.0f} s"
            )

    # -- what agents are told ------------------------------------------------------------------

    def agent_started(self, agent, talk):
        """An agent reads its prompt: what was said since, once; and all of it, if it knows none."""
        if talk is None:
            return
        intent = self.intents.get(agent.attempt_id)
        if intent is None:
            return
        issue = agent.issue
        before = {t for t, (key, seq) in self.said.items() if key == issue and seq < intent.seq}
        given = self.given.setdefault(issue, set())
        told = talk.texts & self.said.keys()
        missing = (before - given if talk.launch.resumed else before) - told
        if missing:
            self.world.fail(f"{agent.attempt_id} is not told {sorted(missing)}")
        again = told & given - self.unheard.get(issue, set()) if talk.launch.resumed else set()
        if again:
            self.world.fail(f"{agent.attempt_id} is told {sorted(again)} again")
        if told - before:
            self.world.fail(f"{agent.attempt_id} is told what others were: {told - before}")
        given |= told
