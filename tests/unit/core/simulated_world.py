"""A machine as the core knows it: attempt folders, runners, agents, a tmux server, a boot.

It obeys the attempt protocol (DESIGN.md section 4) and nothing more: a launched runner comes to its
claim whenever it likes, or never; an agent outlives its runner; a probe may say unknown. What must
never happen, an agent executed twice or two alive for one issue, is asserted where it would.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from gangline.core.evidence import Answer, Claim, Evidence, ExitRecord, Signal
from gangline.core.reconcile import Now


@dataclass
class Folder:
    """One attempt's folder and the processes of the attempt."""

    issue: str
    number: int
    claim: Claim = Claim.NONE
    lock_held: bool = False
    starting: bool = False
    exit: ExitRecord | None = None
    agent_lives: bool = False
    told_to_end: bool = False


@dataclass
class World:
    """Everything that outlives the orchestrator."""

    folders: dict[tuple[str, int], Folder] = field(default_factory=dict)
    coming: list[Folder] = field(default_factory=list)  # launched runners before their claim
    signals: dict[str, Signal] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)  # issue -> the probe that fails
    boots: int = 1
    servers: int = 1
    seconds: float = 1000.0
    journal: list[bytes] = field(default_factory=list)
    state_file: bytes | None = None

    # -- what the orchestrator can ask for -------------------------------------------------

    @property
    def now(self) -> Now:
        return Now(boot_id=f"boot-{self.boots}", boot_seconds=self.seconds)

    @property
    def server(self) -> str:
        return f"server-{self.servers}"

    def probe(self, issue: str, number: int, server: str | None, *, confirmed: bool) -> Evidence:
        folder = self.folders.get((issue, number)) or Folder(issue, number)
        failing = self.unseen.get(issue)
        gone = Answer.NO if server == self.server else Answer.YES
        if failing == "claim":
            return Evidence(attempt=number, claim=Claim.UNKNOWN)
        lock = Answer.YES if folder.lock_held else Answer.NO
        left = Answer.YES if folder.agent_lives else Answer.NO
        return Evidence(
            attempt=number,
            claim=folder.claim,
            lock=Answer.UNKNOWN if failing == "lock" else lock,
            starting=Answer.YES if folder.starting else Answer.NO,
            signal=Signal.UNKNOWN if failing == "signal" else self.signals.get(issue, Signal.NONE),
            has_exit=Answer.YES if folder.exit else Answer.NO,
            exit=folder.exit,
            server_gone=Answer.UNKNOWN if failing == "server" else gone,
            survivors=Answer.UNKNOWN if failing == "survivors" else left,
            confirmed=confirmed,
        )

    def prepare(self, issue: str, number: int) -> Folder:
        assert (issue, number) not in self.folders, "an attempt number was used twice"
        folder = self.folders[issue, number] = Folder(issue, number)
        return folder

    def void(self, issue: str, number: int) -> None:
        folder = self.folders.setdefault((issue, number), Folder(issue, number))
        if folder.claim is Claim.NONE:
            folder.claim = Claim.VOID

    def terminate(self, issue: str, number: int, *, hard: bool) -> None:
        folder = self.folders[issue, number]
        folder.told_to_end = True
        if hard:
            folder.lock_held = folder.agent_lives = False

    def reap(self, issue: str, number: int, *, hard: bool) -> None:
        folder = self.folders[issue, number]
        assert not folder.lock_held, "a living attempt was reaped"
        if hard:
            folder.agent_lives = False

    # -- what happens by itself ------------------------------------------------------------

    def runner_comes(self, folder: Folder) -> None:
        """A launched runner reaches its claim; if there is one, it runs nothing."""
        self.coming.remove(folder)
        if folder.claim is Claim.NONE:
            folder.claim, folder.lock_held = Claim.RUNNER, True

    def agent_starts(self, folder: Folder) -> None:
        assert not folder.starting, "an attempt's agent was executed twice"
        others = [other for other in self.alive() if other.issue == folder.issue]
        assert not others, "two living agents of one issue"
        folder.starting = folder.agent_lives = True

    def agent_ends(self, folder: Folder, record: ExitRecord) -> None:
        folder.exit, folder.agent_lives, folder.lock_held = record, False, False

    def runner_is_killed(self, folder: Folder, *, agent_survives: bool) -> None:
        folder.lock_held = False
        folder.agent_lives = folder.agent_lives and agent_survives

    def server_dies(self) -> None:
        """Every pane is hung up; the runners do their duty and write what they saw."""
        self.servers += 1
        for folder in self.with_runner():
            if folder.starting:
                self.agent_ends(folder, ExitRecord(code=None, signal=1, runner_signal=1))
            else:
                folder.lock_held = False

    def machine_restarts(self) -> None:
        self.boots, self.servers, self.seconds = self.boots + 1, self.servers + 1, 5.0
        self.coming.clear()
        for folder in self.folders.values():
            folder.lock_held = folder.agent_lives = False

    def with_runner(self) -> list[Folder]:
        return [folder for folder in self.folders.values() if folder.lock_held]

    def alive(self) -> Iterable[Folder]:
        return (folder for folder in self.folders.values() if folder.agent_lives)
