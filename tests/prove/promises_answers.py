"""What an answer that is lacking may have been, and what an attempt then comes to (promise 4)."""

from collections.abc import Iterator
from itertools import product

import msgspec

from gangline.core.evidence import (
    Answer,
    Claim,
    Evidence,
    ExitRecord,
    Foreign,
    Progress,
    Signal,
    verdict,
)

_ANSWERS: dict[str, tuple[object, ...]] = {
    "claim": (Claim.NONE, Claim.VOID, Claim.RUNNER),
    "lock": (Answer.YES, Answer.NO),
    "starting": (Answer.YES, Answer.NO),
    "signal": (Signal.NONE, Signal.OK, Signal.FAILED),
    "has_exit": (Answer.NO, ExitRecord(code=0), ExitRecord(code=1), ExitRecord(signal=9)),
    "has_progress": (Answer.NO, Progress(limited=True, failure="limit", failure_kind="limit")),
    "survivors": (Answer.YES, Answer.NO),
    "foreign": (Foreign.ABSENT, Foreign.BUSY),
}


def completions(seen: Evidence) -> Iterator[Evidence]:
    """Every full answer that the lacking ones may stand for."""
    lacking = [name for name in _ANSWERS if getattr(seen, name) == "unknown"]
    for answers in product(*(_ANSWERS[name] for name in lacking)):
        changes = dict(zip(lacking, answers, strict=True))
        record = changes.get("has_exit")
        if isinstance(record, ExitRecord):
            changes |= {"has_exit": Answer.YES, "exit": record}
        progress = changes.get("has_progress")
        if isinstance(progress, Progress):
            changes |= {"has_progress": Answer.YES, "progress": progress}
        full = msgspec.structs.replace(seen, **changes)
        if not lacking or _can_be(full):
            yield full


def _can_be(full: Evidence) -> bool:
    """Whether the protocol lets this be: nothing comes before the claim."""
    if full.claim is Claim.RUNNER or full.foreign is not None:
        return True
    return full.starting is Answer.NO and full.has_exit is Answer.NO


def meaning(full: Evidence, killed: bool, rebooted: bool) -> tuple[object, ...]:
    """What an attempt of which everything is known comes to."""
    found = verdict(full, kill_ordered=killed)
    match found:
        case "finished":
            return found, full.signal, full.exit, _failure(full)
        case "died":
            left = rebooted or full.has_exit is Answer.YES or full.survivors is Answer.NO
            return found, full.signal, left, _failure(full)
    return (found,)


def _failure(full: Evidence) -> str | None:
    return full.progress.failure_kind if full.progress else None
