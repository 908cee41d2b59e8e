"""Starting attempts: a place, the intent, the folder, the launch (DESIGN.md section 4, 1 and 2).

The intent is committed by the pass before anything is started; what happens after that commit may
be lost at any instant, and the next look at the attempt's folder finds out how far it came.
"""

import secrets
import time
from collections.abc import Callable

from gangline.app.dispatch import Dispatcher, MissingTextError
from gangline.core.batch import Batch
from gangline.core.events import Dispatched, Ended, Launched, Outcome, Refused, Voided
from gangline.core.issue import Attempt, IssueState
from gangline.core.model import Status
from gangline.core.policy import launch_timeout_seconds
from gangline.core.reconcile import Now, retry_charge
from gangline.durable import disk_errors
from gangline.errors import GanglineError, MachineError, StateError
from gangline.ports import Host, Launch, LaunchUnknownError, Subject
from gangline.store.batches import Store, Transaction

# Pane ids wait this long for a commit that is made anyway: nothing is decided by them.
_LAUNCHED_PATIENCE_SECONDS = 0.05
_PLACES_LOOK_SECONDS = 2.0  # how soon a pane that a person opened is found
_LOOKS_BEFORE_WORD = 2  # a pane that is just being opened is worth none


def subject_of(
    batch: Batch,
    issue: IssueState,
    attempt: Attempt | None = None,
    *,
    confirmed: bool = False,
    doubted: bool = False,
) -> Subject:
    """What the host is asked about: an attempt of the issue, its newest unless another is given."""
    attempt = attempt or issue.attempts[-1]
    minutes = batch.policy.stall_minutes
    return Subject(
        attempt_id=batch.attempt_id(issue.key, attempt.number),
        issue=issue.key,
        number=attempt.number,
        mark=attempt.mark,
        server=attempt.server,
        launched=attempt.pane is not None,
        confirmed=confirmed,
        doubted=doubted,
        pane=attempt.pane,
        foreign=attempt.foreign,
        plan=attempt.plan,
        since=attempt.started_at,
        boot_id=attempt.boot_id,
        boot_seconds=attempt.boot_seconds,
        quiet_seconds=None if minutes is None else minutes * 60,
    )


def swallowers(batch: Batch, server: str | None) -> dict[str, bool]:
    """The panes of this tmux server that swallowed a launch: what was typed there did not run.

    A program that reads lines without a child looks like a prompt. While its issue has not come to
    run elsewhere (True), such a pane is left alone as long as anything runs anywhere. After that
    (False) it may be a prompt again, and is taken after all others: another issue would lose one
    of its launches to it.
    """
    found: dict[str, bool] = {}
    for issue in batch.issues.values():
        voided = [each for each in issue.attempts if each.outcome is Outcome.VOID]
        for left, each in zip(range(len(voided), 0, -1), voided, strict=True):
            if each.pane is not None and each.pane == each.plan and each.server == server:
                found[each.pane] = found.get(each.pane, False) or left <= issue.voids
    return found


class Launcher:
    """Starts the attempts of one batch.

    Args:
        numbers: The highest attempt number of the folders that are there (AttemptFolders.numbers).
        note: Tells a person something.

    Attributes:
        obstacle: What keeps every launch from being made, and is for a person to mend: the disk, a
            missing git. No issue is to blame for it.
    """

    def __init__(
        self,
        store: Store,
        host: Host,
        dispatcher: Dispatcher,
        numbers: dict[str, int],
        note: Callable[[str], None],
    ) -> None:
        self._store = store
        self._host = host
        self._dispatcher = dispatcher
        self._numbers = numbers
        self._note = note
        self.obstacle: StateError | None = None
        self._hints: set[str] = set()
        self._launched: list[Launched] = []
        self._launched_at = 0.0
        self._places: list[str] = []  # idle panes that were found in this pass
        self._looked = False
        self._places_at: float | None = None  # when to look for some, if anything waits for one
        self._looks_in_vain = 0  # in a row, while nothing runs

    # -- what the loop asks ----------------------------------------------------------------

    def deadlines(self) -> list[float]:
        """Until when the loop may sleep, in monotonic seconds."""
        ends = [self._launched_at + _LAUNCHED_PATIENCE_SECONDS] if self._launched else []
        return ends if self._places_at is None else [*ends, self._places_at]

    def take_hints(self) -> set[str]:
        """Issues to look at again at once."""
        hints, self._hints = self._hints, set()
        return hints

    @property
    def has_unrecorded(self) -> bool:
        """Whether panes of launches still have to be recorded."""
        return bool(self._launched)

    @property
    def wants_place(self) -> bool:
        """Whether something that was ready waits for a first look for a place."""
        return self._places_at is not None and self._places_at <= time.monotonic()

    # -- places ----------------------------------------------------------------------------

    def look_for_places(self) -> None:
        """Find idle panes if something waits for one; it takes time: not under the journal lock."""
        self._looked = self._places_at is not None and time.monotonic() >= self._places_at
        self._places = []
        if not self._looked:
            return
        self._places_at = None
        batch = self._store.batch
        found = self._host.idle_panes()
        deaf = swallowers(batch, self._host.server)
        runs = bool(batch.by_status[Status.DISPATCHED])
        hearing = sorted((p for p in found if not deaf.get(p)), key=lambda pane: pane in deaf)
        self._places = hearing or ([] if runs else found)
        self._looks_in_vain = 0 if self._places or runs else self._looks_in_vain + 1
        if self._looks_in_vain == _LOOKS_BEFORE_WORD:
            self._note("no other pane of this tmux session is idle: open one to go on")

    def offer(self, pane: str) -> None:
        """The one place there is for what is intended next."""
        self._places, self._looked = [pane], True

    def _take_place(self, mark: str) -> str | None:
        """An idle pane, taken for this attempt; None if there is none now."""
        while self._places:
            pane = self._places.pop(0)
            if self._host.take_pane(pane, mark):
                return pane
        wait = _PLACES_LOOK_SECONDS if self._looked else 0.0
        self._places_at = time.monotonic() + wait
        return None

    # -- the intent ------------------------------------------------------------------------

    def intend(self, moment: Transaction, key: str, now: Now) -> Launch | None:
        """Record the intent, if the issue's workspace and a place are there; what to launch."""
        if any(isinstance(e, Ended | Voided) and e.issue == key for e in moment.events):
            self._hints.add(key)  # its end is committed before its signal file is put away
            return None
        batch = moment.batch
        issue = batch.issues[key]
        previous = issue.attempt
        number = 1 + max(
            previous.number if previous else -1, self._numbers.get(f"{batch.batch_id}-{key}", -1)
        )
        mark = f"{batch.attempt_id(key, number)}.{secrets.token_hex(8)}"
        retry = retry_charge(issue)
        place = None
        if self._host.takes_idle_panes:
            place = self._take_place(mark)
            if place is None:
                return None
        launch = None
        try:
            launch = self._ready(moment, key, number, mark, retry, place)
        finally:
            if launch is None and place is not None:
                self._host.release_pane(place, mark)
        if launch is None:
            return None
        self._put_away_signal(key, previous)
        moment.record(
            Dispatched(
                issue=key,
                attempt=number,
                mark=mark,
                retry=retry,
                boot_id=now.boot_id,
                boot_seconds=now.boot_seconds,
                server=self._host.server,
                agent=launch.agent,
                branch=launch.branch,
                plan=place,
                account=launch.account,
                session=launch.session,
                resumed=launch.resumed,
                afresh=launch.afresh,
                messages=launch.messages,
            )
        )
        return launch

    def _ready(
        self, moment: Transaction, key: str, number: int, mark: str, retry: int, place: str | None
    ) -> Launch | None:
        """Everything the attempt needs; None if it is refused, or cannot be made now."""
        workspace = self._dispatcher.workspace(moment.batch, key)
        if workspace is None:
            return None
        if isinstance(workspace, MachineError):
            self.obstacle = StateError(
                f"the workspace of #{key} cannot be made: {workspace.message}",
                place=workspace.place,
                causes=[*workspace.causes, "nothing was started for it"],
                hint=workspace.hint or "mend that, then run the same command again",
            )
            return None
        try:
            if isinstance(workspace, GanglineError):
                raise workspace
            return self._dispatcher.launch(moment.batch, key, number, mark, workspace, retry, place)
        except MissingTextError:
            raise
        except GanglineError as error:
            reason = "; ".join([error.message, *error.causes])
            moment.record(Refused(issue=key, reason=reason))
            self._hints.add(key)  # what it leaves free is given to others at once
            return None

    def _put_away_signal(self, key: str, previous: Attempt | None) -> None:
        batch = self._store.batch
        attempt_id = batch.attempt_id(key, previous.number) if previous else None
        cause = "nothing was started: it would be taken for the next attempt's"
        with disk_errors(f"the signal file of #{key} cannot be moved away", cause):
            self._host.put_away_signal(key, attempt_id)

    # -- the launch ------------------------------------------------------------------------

    def launch(self, launch: Launch) -> float:
        """Make the attempt's folder and start its runner; the intent is durable.

        Returns:
            Seconds after which to look whether it came to its claim.
        """
        key = launch.issue
        batch = self._store.batch
        issue = batch.issues[key]
        *before, attempt = issue.attempts
        if before:  # its pane may have been kept to be read
            self._host.retire(subject_of(batch, issue, before[-1]), before[-1].pane)
        cause = "nothing was started; the next start gives this attempt up, uncharged"
        with disk_errors(f"the folder of attempt {launch.attempt_id} cannot be made", cause):
            self._host.prepare(launch)
        # Only now: whoever was stopped since the intent may have made the folder in another batch's
        # area. In this batch's a voided attempt has one, so this one is the first.
        self._store.check_same_batch()
        try:
            pane, server = self._host.launch(launch)
        except LaunchUnknownError as error:
            self._note(f"tmux did not confirm the start of #{key}: {error}")
        else:
            if not self._launched:
                self._launched_at = time.monotonic()
            self._launched.append(
                Launched(issue=key, attempt=attempt.number, pane=pane, server=server)
            )
        timeout = launch_timeout_seconds(issue)
        if batch.policy.attempt_minutes is not None:
            timeout = min(timeout, batch.policy.attempt_minutes * 60)
        return timeout

    def record_launched(self, moment: Transaction) -> None:
        """Record the panes of what was launched since."""
        for event in self._launched:
            attempt = moment.batch.issues[event.issue].attempt
            if attempt and attempt.number == event.attempt and attempt.outcome is None:
                moment.record(event)
        self._launched = []
