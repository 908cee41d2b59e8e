"""What a decision is made of: the moment, the effects, and the decision itself.

Effects are orders to the host. None of them is ever needed for the truth of a record: what they did
comes back as evidence.
"""

from typing import NamedTuple

import msgspec

from gangline.core.events import AnyEvent


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """The moment of a decision: the boot it belongs to and that boot's clock, in seconds.

    `epoch_seconds` is the wall clock. It may step, so nothing is decided by it but when a service's
    usage limit ends: the service says that in wall time, and too early costs one more refusal.
    """

    boot_id: str
    boot_seconds: float
    epoch_seconds: float = 0.0


class Start(NamedTuple):
    """Prepare the issue's workspace, then record the intent and launch."""

    issue: str


class Void(NamedTuple):
    """Fence the attempt: link its claim as void."""

    issue: str
    attempt: int


class Terminate(NamedTuple):
    """End a living attempt: politely through its runner, or hard (runner and all it started)."""

    issue: str
    attempt: int
    hard: bool


class Reap(NamedTuple):
    """Signal whatever still bears the mark of a dead attempt: TERM, or KILL when hard."""

    issue: str
    attempt: int
    hard: bool


class Look(NamedTuple):
    """Look at the attempt again after so many seconds; `confirm` when its death was doubted."""

    issue: str
    seconds: float
    confirm: bool


Effect = Start | Void | Terminate | Reap | Look


class Decision(NamedTuple):
    """What to record, then what to do."""

    events: list[AnyEvent]
    effects: list[Effect]
