"""The attempt folder, from the orchestrator's side: prepare, fence, read (DESIGN.md section 4).

The names and their order are the contract with the runner (hosts/attempt_folder.py). Reading is
done in the order claim, lock, starting, signal, exit: only what follows a runner's claim and a free
lock is final. A missing lock, like any error, is unknown; a probe creates nothing.
"""

import contextlib
import fcntl
import os
import re

import msgspec

from gangline.core.evidence import (
    Answer,
    Claim,
    Evidence,
    ExitRecord,
    RunnerIdentity,
    Signal,
)
from gangline.durable import make_folders, sync_folder, write_all, write_durably
from gangline.hosts.attempt_folder import CLAIM, ENVIRONMENT, EXIT, LOCK, PROMPT, SPEC, STARTING
from gangline.hosts.processes import epoch_seconds
from gangline.ports import Launch, Subject

GRACE_SECONDS = 5.0
_SMALL_FILE_BYTES = 65536
_ATTEMPT_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]*-a[0-9]+\Z")


class _ClaimFile(msgspec.Struct, rename="camel"):
    by: str
    pid: int = 0
    start_ticks: int = 0
    boot_id: str = ""


class _StartingFile(msgspec.Struct, rename="camel"):
    pid: int
    start_ticks: int


class _ExitFile(ExitRecord, frozen=True, kw_only=True, rename="camel"):
    # Declared again: a rename does not reach inherited fields.
    runner_signal: int | None = None
    ended_at: str | None = None
    log_cut: bool = False


_claim_decoder = msgspec.json.Decoder(_ClaimFile)
_starting_decoder = msgspec.json.Decoder(_StartingFile)
_exit_decoder = msgspec.json.Decoder(_ExitFile)


class AttemptFolders:
    """The `attempts/` folder of one area, and the area's signal files beside it."""

    def __init__(self, area_folder: str, wake: str) -> None:
        self._area = area_folder
        self._root = os.path.join(area_folder, "attempts")
        self._wake = wake
        self._claims: dict[str, tuple[Claim, RunnerIdentity | None]] = {}
        self._is_root_durable = False

    def path(self, attempt_id: str) -> str:
        """The attempt's folder."""
        return f"{self._root}/{attempt_id}"  # os.path.join is a fifth of a pass over 500 attempts

    def numbers(self) -> dict[str, int]:
        """The highest attempt number by `{batchId}-{issue}` of every folder that is there."""
        highest: dict[str, int] = {}
        try:
            names = os.listdir(self._root)
        except FileNotFoundError:
            return highest
        for name in names:
            stem, separator, number = name.rpartition("-a")
            if separator and number.isdecimal():
                highest[stem] = max(highest.get(stem, 0), int(number))
        return highest

    def prepare(self, launch: Launch) -> None:
        """Make the folder, exclusively, with all that the runner needs, and make it durable.

        Raises:
            FileExistsError: the attempt number is taken.
        """
        path = self.path(launch.attempt_id)
        try:
            os.mkdir(path, 0o700)
        except FileNotFoundError:
            os.mkdir(self._root, 0o700)
            os.mkdir(path, 0o700)
        prompt = launch.prompt.encode("utf-8", "replace")
        write = write_durably if launch.reads_prompt else _write
        write(os.path.join(path, PROMPT), prompt)
        environment = b"\0".join(
            os.fsencode(f"{name}={value}") for name, value in launch.environment.items()
        )
        # It goes when the runner has read it; an attempt that lost it has no claim, and is voided.
        _write(os.path.join(path, ENVIRONMENT), environment)
        for name, data in launch.files.items():
            write_durably(os.path.join(path, name), data)
        write_durably(os.path.join(path, SPEC), _as_json(self._spec(launch)))
        sync_folder(path)
        self._sync_root()

    def _sync_root(self) -> None:
        """Make the folders' names durable; at first also that of `attempts/` itself, for whoever
        made it may have been killed before its sync.
        """
        sync_folder(self._root)
        if not self._is_root_durable:
            sync_folder(self._area)
            self._is_root_durable = True

    def _spec(self, launch: Launch) -> dict[str, object]:
        setup = None
        if launch.setup:
            setup = {
                "program": launch.setup_program,
                "argv": launch.setup,
                "done": launch.setup_done,
            }
        worktree = None
        if launch.git_dir:
            worktree = {"gitDir": launch.git_dir, "branch": launch.branch}
        return {
            "attempt": launch.attempt_id,
            "issue": launch.issue,
            "cwd": launch.cwd,
            "worktree": worktree,
            "program": launch.program,
            "argv": launch.argv,
            "stdin": launch.stdin,
            "setup": setup,
            "logBytes": launch.log_bytes,
            "graceSeconds": GRACE_SECONDS,
            "idlePane": launch.pane is not None,
            "keepFailed": launch.keep_failed,
            "keepCompleted": launch.keep_completed,
            "wake": self._wake,
            "reader": launch.reader,
            "interactive": launch.interactive,
        }

    def void(self, attempt_id: str) -> None:
        """Link the claim as void, durably; if the name is taken, leave it."""
        path = self.path(attempt_id)
        make_folders(path)
        own = os.path.join(path, f"{CLAIM}.void.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            # Left by a process of this number that died after its link, it is the claim itself.
            os.unlink(own)
        write_durably(own, b'{"by":"void"}')
        try:
            os.link(own, os.path.join(path, CLAIM))
        except FileExistsError:
            pass
        finally:
            os.unlink(own)
        sync_folder(path)
        self._sync_root()

    def read(self, subject: Subject) -> Evidence:
        """One look at an attempt; server and survivors are left unknown.

        If the claim was not there but the agent was about to start, the look was overtaken by the
        runner, and it is taken again: then the claim is either there, or truly lost.
        """
        seen = self._read_once(subject)
        if seen.claim is Claim.NONE and seen.starting is not Answer.NO:
            seen = self._read_once(subject)
        return seen

    def _read_once(self, subject: Subject) -> Evidence:
        folder = self.path(subject.attempt_id)
        claim, runner = self._claims.get(subject.attempt_id) or self._first_claim(subject)
        lock = probe_lock(f"{folder}/{LOCK}")
        if claim is Claim.RUNNER and lock is Answer.YES:
            # It lives: what else there is to see is not final.
            return Evidence(
                attempt=subject.number,
                claim=claim,
                lock=lock,
                starting=Answer.UNKNOWN,
                signal=self.read_signal(subject),
                runner=runner,
                confirmed=subject.confirmed,
                doubted=subject.doubted,
            )
        starting = _exists(f"{folder}/{STARTING}")
        signal = self.read_signal(subject)
        has_exit, record = _read_exit(f"{folder}/{EXIT}")
        return Evidence(
            attempt=subject.number,
            claim=claim,
            lock=lock,
            starting=starting,
            signal=signal,
            has_exit=has_exit,
            exit=record,
            runner=runner,
            confirmed=subject.confirmed,
            doubted=subject.doubted,
        )

    def _first_claim(self, subject: Subject) -> tuple[Claim, RunnerIdentity | None]:
        """A claim is complete or absent and never changes, so one that was seen is remembered."""
        found = _read_claim(os.path.join(self.path(subject.attempt_id), CLAIM))
        if found[0] in (Claim.RUNNER, Claim.VOID):
            self._claims[subject.attempt_id] = found
        return found

    def session(self, subject: Subject) -> tuple[int, int] | None:
        """Pid and start time of the leader of the agent's session, if its runner came to say so.

        Raises:
            OSError: it cannot be read now; the agent may live.
        """
        try:
            path = os.path.join(self.path(subject.attempt_id), STARTING)
            found = _starting_decoder.decode(_read_small(path))
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return found.pid, found.start_ticks

    def has_lock(self, subject: Subject) -> bool:
        """Whether a lock file is there, or nobody can tell."""
        return _exists(os.path.join(self.path(subject.attempt_id), LOCK)) is not Answer.NO

    def is_lost(self, subject: Subject) -> bool:
        """Whether the folder is not there, or nothing is in it: not made yet, or deleted."""
        folder = self.path(subject.attempt_id)
        return all(_exists(os.path.join(folder, name)) is Answer.NO for name in (SPEC, LOCK))

    def forget(self, attempt_id: str) -> None:
        """The attempt is over: what its runner did not come to read may hold secrets, and goes."""
        self._claims.pop(attempt_id, None)
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.path(attempt_id), ENVIRONMENT))

    def read_signal(self, subject: Subject) -> Signal:
        """The signal file, if it is this attempt's.

        What was there before an intent was put away, so its time is asked only of an attempt that
        Gangline did not start: a clock that steps back would make a true signal look old. A second
        word names the attempt that it is meant for.
        """
        path = self.signal_path(subject.issue)
        try:
            words = _read_small(path).split()
            if len(words) > 1 and _ATTEMPT_ID.match(words[-1]) and not subject.foreign:
                if words.pop().decode() != subject.attempt_id:
                    return Signal.NONE
            elif subject.foreign and os.stat(path).st_mtime < epoch_seconds(subject.since):
                return Signal.NONE
            return Signal.OK if words == [b"ok"] else Signal.FAILED
        except FileNotFoundError:
            return Signal.NONE
        except IsADirectoryError:
            return Signal.FAILED  # whatever is not `ok`
        except OSError:
            return Signal.UNKNOWN

    def signal_path(self, issue: str) -> str:
        """`issue-{N}.exit`."""
        return f"{self._area}/issue-{issue}.exit"

    def put_away_signal(self, issue: str, attempt_id: str | None) -> None:
        """Move a signal file out of the way of the next attempt, into the folder of the last.

        Where there is no such folder it stays beside its old place, as `issue-{N}.exit.stale`.

        Raises:
            OSError: it cannot be moved; the next attempt must not be begun then.
        """
        path = self.signal_path(issue)
        if not os.path.lexists(path):
            return
        folder = self.path(attempt_id) if attempt_id else None
        if folder and os.path.isdir(folder):
            os.replace(path, os.path.join(folder, "signal"))
            sync_folder(folder)
        else:
            os.replace(path, f"{path}.stale")
        sync_folder(self._area)


def _as_json(spec: dict[str, object]) -> bytes:
    try:
        return msgspec.json.encode(spec)
    except UnicodeEncodeError:  # a path that is no UTF-8
        import json  # noqa: PLC0415 - hardly ever needed

        return json.dumps(spec).encode()


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def probe_lock(path: str) -> Answer:
    """Whether a lock is held by anyone: takes it shared for an instant; never creates it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return Answer.UNKNOWN
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Answer.YES
    except OSError:
        return Answer.UNKNOWN
    else:
        return Answer.NO
    finally:
        os.close(fd)


def _read_claim(path: str) -> tuple[Claim, RunnerIdentity | None]:
    try:
        found = _claim_decoder.decode(_read_small(path))
    except FileNotFoundError:
        return Claim.NONE, None
    except (OSError, msgspec.DecodeError):
        return Claim.UNKNOWN, None
    if found.by == "void":
        return Claim.VOID, None
    if found.by != "runner":
        return Claim.UNKNOWN, None
    return Claim.RUNNER, RunnerIdentity(found.pid, found.start_ticks, found.boot_id)


def _read_exit(path: str) -> tuple[Answer, ExitRecord | None]:
    try:
        return Answer.YES, _exit_decoder.decode(_read_small(path))
    except FileNotFoundError:
        return Answer.NO, None
    except (OSError, msgspec.DecodeError):
        return Answer.UNKNOWN, None


def _exists(path: str) -> Answer:
    try:
        os.stat(path)
    except FileNotFoundError:
        return Answer.NO
    except OSError:
        return Answer.UNKNOWN
    return Answer.YES


def _read_small(path: str) -> bytes:
    # A pipe that an agent put in the place of a file must not hold up the loop.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(fd, _SMALL_FILE_BYTES)
    finally:
        os.close(fd)
