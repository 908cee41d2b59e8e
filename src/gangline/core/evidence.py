"""What was seen of one attempt, and what it means: the verdict table of DESIGN.md section 4.

Each probe answers yes, no or unknown. Evidence is read in the order claim, lock, starting, signal,
exit; only what follows a runner's claim and a free lock is final. Unknown never kills, fails or
re-dispatches anything.
"""

from enum import StrEnum

import msgspec


class Claim(StrEnum):
    """Whose name `claim` was linked by."""

    NONE = "none"
    VOID = "void"
    RUNNER = "runner"
    UNKNOWN = "unknown"


class Answer(StrEnum):
    """The three answers of a probe."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Signal(StrEnum):
    """The optional signal file `issue-{N}.exit`."""

    NONE = "none"
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Foreign(StrEnum):
    """What the pane of an attempt tells that the specification's shell started."""

    ABSENT = "absent"  # proven: the pane, its server or its boot is gone
    IDLE = "idle"  # back at its shell
    BUSY = "busy"  # runs something
    DOUBTFUL = "doubtful"  # nobody can tell whether this pane is the attempt's
    UNKNOWN = "unknown"  # it could not be looked at now


class ExitRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """exit.json: how the agent ended, written by the runner when nothing of the attempt is left.

    Attributes:
        code: The agent's exit code, if it exited.
        signal: The signal that ended it, if one did.
        runner_signal: HUP or TERM, if the runner itself was told to end.
        refused: Why the runner would not start the agent.
        ended_at: UTC, ISO 8601.
        log_cut: Whether output.log was capped by log_mb.
    """

    code: int | None = None
    signal: int | None = None
    runner_signal: int | None = None
    refused: str | None = None
    ended_at: str | None = None
    log_cut: bool = False


class RunnerIdentity(msgspec.Struct, frozen=True):
    """Which process claimed the attempt: a pid alone is reused."""

    pid: int
    start_ticks: int
    boot_id: str


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """progress.json: what the agent's own output tells, written by the runner as it reads it.

    Attributes:
        session: The agent's own session, as it was seen in its output.
        input_tokens, output_tokens, cost_usd: See Usage.
        tool: The tool call that is in flight, in words: a long one is no stall.
        limited, limited_until, limit_text: Its service's usage limit was hit, until this second of
            the epoch, if it said so.
        needs: What it waits for that only a person can do, in words.
        failure: Why it did not succeed, also where its exit code is 0.
        failure_kind: "permission", "auth", "limit", "api", "no-session", "session-in-use", "error".
        last_words: The last it said.
    """

    session: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    tool: str | None = None
    retrying: str | None = None
    limited: bool = False
    limited_until: float | None = None
    limit_text: str | None = None
    needs: str | None = None
    failure: str | None = None
    failure_kind: str | None = None
    last_words: str | None = None


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything seen of one attempt in one look.

    Attributes:
        attempt: The attempt's number; evidence of another attempt is never used.
        lock: Whether the runner's lock is held.
        starting: Whether the agent was about to be executed.
        has_exit: Whether exit.json is there; UNKNOWN if it cannot be read.
        server_gone: Whether the tmux server it was launched on is proven gone.
        survivors: Whether processes that bear its mark live; UNKNOWN until looked for.
        confirmed: A second look at a death that came with many others.
        foreign: For an attempt that Gangline did not start, all there is to see besides the signal.
        doubted: It was looked at before and could not be seen then either.
        progress: What its output tells; None where nobody reads it.
        has_progress: UNKNOWN if it cannot be read; otherwise nothing is decided by it.
        quiet_seconds: For how long nothing of a living attempt has moved (output, CPU, worktree);
            None: not looked for, or unknown.
    """

    attempt: int
    claim: Claim = Claim.NONE
    lock: Answer = Answer.UNKNOWN
    starting: Answer = Answer.NO
    signal: Signal = Signal.NONE
    has_exit: Answer = Answer.NO
    exit: ExitRecord | None = None
    runner: RunnerIdentity | None = None
    server_gone: Answer = Answer.UNKNOWN
    survivors: Answer = Answer.UNKNOWN
    confirmed: bool = False
    foreign: Foreign | None = None
    doubted: bool = False
    progress: Progress | None = None
    has_progress: Answer = Answer.NO
    quiet_seconds: float | None = None


class Verdict(StrEnum):
    """What the evidence of one attempt means."""

    NOT_STARTED = "not-started"
    NEVER_RAN = "never-ran"
    REFUSED = "refused"
    RUNNING = "running"
    FINISHED = "finished"
    DIED = "died"
    UNKNOWN = "unknown"


# As shells and agent programs report a hang-up (128 + 1) and a termination (128 + 15).
_EXIT_CODES_OF_A_DEATH = frozenset({129, 143})


def unreadable(seen: Evidence) -> str:
    """What of an attempt could not be read, in words; "" if all of it could."""
    has_come = seen.claim is Claim.RUNNER or seen.starting is Answer.YES
    if seen.foreign is not None:
        return "" if seen.foreign is not Foreign.UNKNOWN else "its pane"
    parts = (
        (seen.claim, "its claim"),
        (seen.lock if has_come else Answer.NO, "its lock"),  # before that there need be none
        (seen.starting, "whether it was starting"),
        (seen.has_exit, "its exit.json"),
        (seen.signal, "its signal file"),
        (seen.has_progress, "its progress.json"),
    )
    return next((words for answer, words in parts if answer == "unknown"), "")


def verdict(seen: Evidence, *, kill_ordered: bool) -> Verdict:
    """The table of DESIGN.md section 4, row by row.

    Args:
        seen: One attempt's evidence.
        kill_ordered: Whether a kill of ours was journalled for this attempt; then an end by a
            signal is our doing and not a death.
    """
    if seen.foreign is not None:
        return _verdict_of_foreign(seen.foreign, seen.signal)
    match seen.claim, seen.lock:
        case Claim.RUNNER, Answer.YES:  # first, as most are
            return Verdict.RUNNING
        case Claim.UNKNOWN, _:
            return Verdict.UNKNOWN
        case Claim.VOID, _:
            return Verdict.NEVER_RAN
        case Claim.NONE, _:
            return {
                Answer.NO: Verdict.NOT_STARTED,
                Answer.YES: _ended_without_claim(seen),
                Answer.UNKNOWN: Verdict.UNKNOWN,
            }[seen.starting]
        case Claim.RUNNER, Answer.NO:
            return _verdict_of_ended(seen, kill_ordered=kill_ordered)
        case _:
            return Verdict.UNKNOWN


def _verdict_of_foreign(pane: Foreign, signal: Signal) -> Verdict:
    if signal is not Signal.NONE:
        return Verdict.UNKNOWN if signal is Signal.UNKNOWN else Verdict.FINISHED
    match pane:
        case Foreign.ABSENT | Foreign.IDLE:
            return Verdict.DIED
        case Foreign.BUSY:
            return Verdict.RUNNING
    return Verdict.UNKNOWN


def _ended_without_claim(seen: Evidence) -> Verdict:
    # The claim was lost. The lock still tells whether the runner lives.
    if seen.lock is Answer.YES:
        return Verdict.RUNNING
    known = seen.lock is Answer.NO and not _words_unknown(seen)
    return Verdict.DIED if known else Verdict.UNKNOWN


def _words_unknown(seen: Evidence) -> bool:
    """Whether the agent's own words cannot be read.

    The signal decides over a death and over an exit code, and what its output tells over both:
    without them nothing is final.
    """
    return seen.signal is Signal.UNKNOWN or seen.has_progress is Answer.UNKNOWN


def _verdict_of_ended(seen: Evidence, *, kill_ordered: bool) -> Verdict:
    match seen.starting, seen.has_exit:
        case (Answer.UNKNOWN, _) | (_, Answer.UNKNOWN):
            return Verdict.UNKNOWN
        case Answer.NO, Answer.NO:
            return Verdict.NEVER_RAN
        case Answer.NO, Answer.YES:
            return Verdict.REFUSED
    if _words_unknown(seen):
        return Verdict.UNKNOWN
    if seen.has_exit is Answer.NO:
        return Verdict.DIED
    record = seen.exit or ExitRecord()
    by_signal = (
        record.signal is not None
        or record.runner_signal is not None
        or record.code in _EXIT_CODES_OF_A_DEATH
    )
    return Verdict.DIED if by_signal and not kill_ordered else Verdict.FINISHED
