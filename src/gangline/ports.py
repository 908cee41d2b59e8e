"""The few protocols with two real implementations: the machine, and the simulator that crashes it.

The orchestrator's loop is written against these alone, so the same loop runs in both.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from gangline.core.evidence import Evidence
from gangline.core.reconcile import Now


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """Everything needed to start one attempt; made durable before it is started.

    Attributes:
        attempt_id: `{batchId}-{issue}-a{n}`: the name of the attempt's folder.
        issue: The issue's key.
        title: Untrusted; for the window's name.
        mark: In the environment of every process of the attempt.
        cwd: The folder the agent is registered for, absolute.
        git_dir, branch: The worktree's private git folder and its branch; None without worktree.
        argv: The agent's command, placeholders filled in; argv[0] as the user wrote it.
        program: Absolute path of the program, or one relative to `cwd`.
        stdin: "prompt" or "none".
        agent: Its name, for the record.
        reads_prompt: Whether prompt.md matters to it; otherwise it is there for people only.
        environment: The agent's whole environment.
        setup: A command to run in a new worktree first, or None; `setup_done` marks it as done.
        log_bytes: Cap of output.log.
        pane: The person's own idle pane to type the launch into; None for a window of ours.
        reader: Which of agents/readers understands what it prints; None: it is shown as it is.
        interactive: It runs on the pane's own terminal, and a person can type to it.
        files: Further files of the attempt's folder, such as an agent's settings, by name.
        session, resumed, afresh, messages, account: As they are recorded, see Dispatched.
    """

    attempt_id: str
    issue: str
    title: str
    mark: str
    cwd: str
    argv: tuple[str, ...]
    program: str
    prompt: str
    stdin: str
    agent: str
    environment: dict[str, str]
    log_bytes: int
    reads_prompt: bool = True
    git_dir: str | None = None
    branch: str | None = None
    setup: tuple[str, ...] | None = None
    setup_program: str | None = None
    setup_done: str | None = None
    pane: str | None = None
    keep_failed: bool = True
    keep_completed: bool = False
    reader: str | None = None
    interactive: bool = False
    files: dict[str, bytes] = {}
    session: str | None = None
    resumed: bool = False
    afresh: str | None = None
    messages: int = 0
    account: str | None = None


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt a probe or a kill is about, as the batch records it.

    Attributes:
        launched: Its start was confirmed, so its folder has been there.
        confirmed, doubted: See Evidence.
        pane: Where it is; for a foreign attempt this is all that is known.
        foreign: The specification's shell started it.
        plan: The person's own pane that it was typed into.
        since: When it was dispatched, UTC, ISO 8601; "" if the shell did not say.
        boot_id: The boot in which it was dispatched; "" if nobody knows.
        boot_seconds: The boot clock at `since`; 0 if nobody knows.
        quiet_seconds: The silence after which it is to be found out whether anything of it moves;
            None: never.
    """

    attempt_id: str
    issue: str
    number: int
    mark: str
    server: str | None
    launched: bool = False
    confirmed: bool = False
    doubted: bool = False
    pane: str | None = None
    foreign: bool = False
    plan: str | None = None
    since: str = ""
    boot_id: str = ""
    boot_seconds: float = 0.0
    quiet_seconds: float | None = None


class LaunchUnknownError(Exception):
    """Nobody knows whether the launch happened: the fence will decide."""


class Clock(Protocol):
    """Time, as the loop needs it."""

    def now(self) -> Now:
        """The boot and its clock."""

    def wall(self) -> str:
        """UTC, ISO 8601 with milliseconds and Z: for people only, nothing is decided by it."""


class Wake(NamedTuple):
    """Why a wait ended.

    Attributes:
        issues: Keys of issues to look at.
        journal: Somebody may have appended to the journal.
        signal: INT, TERM or HUP, if one was received since the start.
    """

    issues: set[str]
    journal: bool
    signal: int | None


class Waiter(Protocol):
    """What the loop sleeps on. All wakes are hints: the files are the truth."""

    def wait(self, timeout_seconds: float) -> Wake:
        """Sleep until something happens or the time is over."""


class Host(Protocol):
    """The machine that runs attempts: gives evidence; takes launch, void and kill."""

    server: str | None  # the tmux server in use, as it is recorded
    takes_idle_panes: bool  # attempts go into a person's own idle panes, not into windows of ours

    def tidy(self) -> None:
        """Time for housekeeping that nothing depends on."""

    def idle_panes(self) -> list[str]:
        """Panes that could be taken now; empty also where tmux does not answer."""

    def take_pane(self, pane: str, mark: str) -> bool:
        """Take an idle pane for an attempt, unless somebody else has; whether it is ours now."""

    def release_pane(self, pane: str, mark: str) -> None:
        """Give back a pane that was taken for this attempt."""

    def prepare(self, launch: Launch) -> None:
        """Make the attempt's folder, exclusively and durably.

        Raises:
            FileExistsError: the number is taken.
        """

    def launch(self, launch: Launch) -> tuple[str, str]:
        """Start the runner in a new window, or type it into the pane that was taken.

        Returns:
            Pane id and tmux server identity.

        Raises:
            LaunchUnknownError: it may or may not have been started.
        """

    def probe(self, subjects: Sequence[Subject]) -> dict[str, Evidence]:
        """Look at attempts; by issue key. Never raises: what cannot be seen is unknown."""

    def void(self, attempt_id: str) -> None:
        """Link the attempt's claim as void, durably, unless the name is taken.

        Raises:
            OSError: the disk refuses.
        """

    def terminate(self, subject: Subject, *, hard: bool) -> None:
        """End a living attempt: politely through its runner, or hard with all it started."""

    def reap(self, subject: Subject, *, hard: bool) -> None:
        """Signal what a dead attempt left: TERM, or KILL when hard. Does not wait."""

    def retire(self, subject: Subject, pane: str | None) -> None:
        """The attempt is over: stop watching it; close this pane if it is still the attempt's, or
        give it back where it is a person's own.
        """

    def put_away_signal(self, issue: str, attempt_id: str | None) -> None:
        """Move the issue's signal file, if there is one, into the folder of its last attempt.

        Args:
            issue: The issue's key.
            attempt_id: Its last attempt; None if there was none.

        Raises:
            OSError: it cannot be moved.
        """
