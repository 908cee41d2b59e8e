"""This machine as a host: tmux windows, attempt folders, processes.

It gives evidence and takes launch, void and kill for single attempts; of batches it knows nothing.
Life is judged by an attempt's lock, never by a pane id: tmux numbers panes from %0 again with every
server, and a living pane can hold a dead agent (erratum 3).
"""

import contextlib
import os
import sys
from collections.abc import Sequence

import msgspec

from gangline.core.evidence import Answer, Claim, Evidence, Foreign
from gangline.errors import ConfigError, MachineError
from gangline.hosts import processes
from gangline.hosts.activity import Activity
from gangline.hosts.attempt_folder import MARK_VARIABLE
from gangline.hosts.attempts import AttemptFolders
from gangline.hosts.idle import IdlePanes, PaneLook
from gangline.hosts.tmux import Tmux
from gangline.hosts.tmux_control import TmuxError, TmuxGoneError, TmuxRefusedError
from gangline.hosts.wakes import Watcher
from gangline.ports import Launch, LaunchUnknownError, Subject

# The runner imports nothing it does not need; `-I -S` keeps the user's environment out of it, and
# `_exit` saves taking the interpreter down in order: there is nothing left to flush.
_RUNNER_CODE = (
    "import sys;sys.path.insert(0,sys.argv[2]);"
    "from gangline.hosts.runner import main;import os;os._exit(main(sys.argv[1]))"
)
_PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_SIGTERM, _SIGKILL = 15, 9
_FOREIGN = {
    PaneLook.ABSENT: Foreign.ABSENT,
    PaneLook.IDLE: Foreign.IDLE,
    PaneLook.BUSY: Foreign.BUSY,
    PaneLook.UNKNOWN: Foreign.UNKNOWN,
}


class LocalHost:
    """The Host port on this machine.

    Args:
        folders: The area's attempt folders.
        tmux: The chosen server.
        session: The wished name of the session.
        owner: What marks the session as this repository's and area's.
        wakes: Told which processes to watch.
        own_pane: The orchestrator's own pane, such as `$TMUX_PANE`.
        takes_idle_panes: Attempts go into idle panes of its session, not into windows of ours.
    """

    def __init__(
        self,
        folders: AttemptFolders,
        tmux: Tmux,
        session: str,
        owner: str,
        wakes: Watcher,
        *,
        own_pane: str | None = None,
        takes_idle_panes: bool = False,
    ) -> None:
        self._folders = folders
        self._activity = Activity(folders)
        self._tmux = tmux
        self._wished_session = session
        self._owner = owner
        self._wakes = wakes
        self._session: str | None = None
        self.server: str | None = None
        self._watched_descriptor: int | None = None
        self._idle = IdlePanes(tmux, own_pane)
        self.takes_idle_panes = takes_idle_panes

    # -- tmux ------------------------------------------------------------------------------

    @property
    def session(self) -> str | None:
        """The session's real name, once there is one."""
        return self._session

    def open_session(self) -> None:
        """Find or make the session and connect to it.

        Raises:
            TmuxError: it cannot be had now.
        """
        self._session = self._tmux.ensure_session(self._wished_session, self._owner)
        self._tmux.connect(self._session)
        server = self._tmux.server()
        self.server = server.text if server else None
        self._watch_connection()

    def _watch_connection(self) -> None:
        fd = self._tmux.fileno()
        self._wakes.watch_descriptor(fd, self._watched_descriptor, self.drain)
        self._watched_descriptor = fd

    def drain(self) -> None:
        """Throw away what tmux tells unasked."""
        self._tmux.drain()
        self._watch_connection()

    def tidy(self) -> None:
        """Have tmux notice panes whose end it missed (EVIDENCE.md section 1, trap 1)."""
        try:
            if self._session:
                self._tmux.heal()
        except TmuxError:
            self._session = None
        self.drain()

    def disconnect(self) -> None:
        """Let go of the connection; the session stays as it is."""
        self._tmux.close()
        self._watch_connection()

    def close_session(self, *, everything: bool) -> None:
        """End the session if nothing is to be read in it, or `everything`."""
        try:
            if self._session and (everything or self._tmux.other_windows(self._session) == 0):
                self._tmux.kill_session_if_ours(self._session, self._owner)
        except TmuxError:
            pass
        self.disconnect()

    # -- the port --------------------------------------------------------------------------

    def idle_panes(self) -> list[str]:
        """See ports.Host."""
        try:
            self._note_server()
            return self._idle.find()
        except TmuxError:
            return []

    def take_pane(self, pane: str, mark: str) -> bool:
        """See ports.Host."""
        try:
            self._note_server()
            return self._idle.take(pane, mark)
        except TmuxError:
            return False  # if it was taken after all, that lapses

    def _note_server(self) -> None:
        server = self._tmux.server()
        self.server = server.text if server else None

    def release_pane(self, pane: str, mark: str) -> None:
        """See ports.Host."""
        with contextlib.suppress(TmuxError):  # it lapses
            self._idle.release(pane, mark)

    def prepare(self, launch: Launch) -> None:
        """See ports.Host."""
        self._folders.prepare(launch)

    def launch(self, launch: Launch) -> tuple[str, str]:
        """See ports.Host; one tmux call, argv only, or one line typed."""
        if launch.pane is not None:
            return self._type(launch, launch.pane)
        argv = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            _RUNNER_CODE,
            self._folders.path(launch.attempt_id),
            _PACKAGE_FOLDER,
            launch.mark,
        ]
        title = f"#{launch.issue} {launch.title}"
        environment = {MARK_VARIABLE: launch.mark}
        try:
            if self._session is None:
                self.open_session()
            assert self._session is not None
            try:
                pane = self._tmux.new_window(self._session, title, argv, environment, launch.cwd)
            except (TmuxGoneError, TmuxRefusedError):
                # Proven not started: the server or the session went away. One more, on a new one.
                self.open_session()
                pane = self._tmux.new_window(self._session, title, argv, environment, launch.cwd)
        except TmuxError as error:
            self._session = None
            raise LaunchUnknownError(str(error)) from error
        finally:
            # A connection that was closed on the way is to be forgotten before its number is
            # given to something else.
            self._watch_connection()
        self._wakes.watch(launch.issue, pane.pid)
        return pane.pane, self.server or ""

    def _type(self, launch: Launch, pane: str) -> tuple[str, str]:
        """Type the launch into a person's own pane; its claim tells whether the shell read it."""
        folder = self._folders.path(launch.attempt_id)
        try:
            if not self._idle.waits(pane):  # its person was quicker than the disk
                raise LaunchUnknownError(f"pane {pane} is no longer idle; nothing was typed")
            self._idle.type_launch(pane, launch.mark, folder)
        except (TmuxError, ConfigError) as error:
            raise LaunchUnknownError(str(error)) from error
        return pane, self.server or ""

    def probe(self, subjects: Sequence[Subject]) -> dict[str, Evidence]:
        """See ports.Host."""
        found: dict[str, Evidence] = {}
        dead: dict[str, Subject] = {}
        for subject in subjects:
            if subject.foreign:
                found[subject.issue] = self._look_at_foreign(subject)
                continue
            seen = self._with_boot(_with_claim(self._folders.read(subject)), subject)
            seen = self._activity.add_to(seen, subject, living=seen.lock is Answer.YES)
            if seen.lock is Answer.YES and seen.runner:
                self._wakes.watch(subject.issue, seen.runner.pid)
            elif seen.exit is None or seen.exit.runner_signal is not None:
                # Whether the server went with it is told as the cause, also of a void or a hang-up.
                seen = msgspec.structs.replace(seen, server_gone=self._server_gone(subject))
                if seen.has_exit is Answer.NO and seen.claim is not Claim.VOID:
                    lost = seen.starting is not Answer.YES and self._folders.is_lost(subject)
                    if lost or seen.starting is Answer.YES:
                        dead[subject.issue] = subject
            found[subject.issue] = seen
        if not dead:
            return found
        living: set[str] | None
        try:
            living = processes.living_marks({subject.mark for subject in dead.values()})
            living |= {s.mark for s in dead.values() if self._session_lives(s)}
        except OSError:
            living = None  # no descriptor left to look with: survivors stay unknown
        for issue, subject in dead.items():
            left = Answer.UNKNOWN
            if living is not None:
                left = Answer.YES if subject.mark in living else Answer.NO
            found[issue] = _with_survivors(found[issue], subject, left)
        return found

    def _with_boot(self, seen: Evidence, subject: Subject) -> Evidence:
        """No lock is held by a runner of another boot whose lock's name a power cut took.

        It may have taken the claim's name as well: then the intent tells the boot.
        """
        boot = seen.runner.boot_id if seen.runner else subject.boot_id
        if seen.lock is not Answer.UNKNOWN or not boot or self._folders.has_lock(subject):
            return seen
        try:
            gone = boot != processes.boot_id()
        except OSError:
            return seen
        return msgspec.structs.replace(seen, lock=Answer.NO) if gone else seen

    def _look_at_foreign(self, subject: Subject) -> Evidence:
        """What the pane tells of an attempt that Gangline did not start (DESIGN.md section 4).

        Whatever runs in a pane of a server that was started after the dispatch is doubtful: there
        the id may be somebody else's.
        """
        pane = Foreign.DOUBTFUL
        if subject.pane is None:
            pane = self._look_for_any_server()
        else:
            look, times = self._idle.look(subject.pane)
            pane = _FOREIGN[look]
            since = processes.epoch_seconds(subject.since)
            if look is PaneLook.BUSY and times and since and times.server_started > since:
                pane = Foreign.DOUBTFUL
        return Evidence(
            attempt=subject.number,
            signal=self._folders.read_signal(subject),
            foreign=pane,
            survivors=Answer.NO,  # what else it started is not known to be its own
            confirmed=subject.confirmed,
            doubted=subject.doubted,
        )

    def _look_for_any_server(self) -> Foreign:
        """Where nobody knows the pane: without a tmux server there is none that could live."""
        try:
            return Foreign.ABSENT if self._tmux.server() is None else Foreign.DOUBTFUL
        except (TmuxError, MachineError):
            return Foreign.UNKNOWN

    def _session_lives(self, subject: Subject) -> bool:
        """Whether the agent lives, also one that emptied its environment and so lost the mark."""
        session = self._folders.session(subject)
        return session is not None and processes.start_ticks(session[0]) == session[1]

    def _server_gone(self, subject: Subject) -> Answer:
        """Whether the tmux server it was launched on is proven gone: its process is."""
        if not subject.server:
            return Answer.UNKNOWN
        pid = subject.server.partition(".")[0]
        try:
            if not pid.isdigit() or processes.start_ticks(int(pid)) is None:
                return Answer.YES
        except OSError:
            return Answer.UNKNOWN
        return Answer.NO if subject.server == self.server else Answer.UNKNOWN

    def void(self, attempt_id: str) -> None:
        """See ports.Host."""
        self._folders.void(attempt_id)

    def terminate(self, subject: Subject, *, hard: bool) -> None:
        """See ports.Host."""
        runner = self._folders.read(subject).runner
        with contextlib.suppress(OSError):  # not done now: the next pass asks again
            if runner and runner.boot_id == processes.boot_id():
                number = _SIGKILL if hard else _SIGTERM
                processes.signal_process(runner.pid, runner.start_ticks, number)
            elif runner is None and not hard:  # its claim was deleted: its mark alone leads to it
                processes.signal_marked(subject.mark, _SIGTERM)
            if hard:
                self._signal_left(subject, _SIGKILL)

    def reap(self, subject: Subject, *, hard: bool) -> None:
        """See ports.Host."""
        with contextlib.suppress(OSError):  # not done now: the next pass asks again
            self._signal_left(subject, _SIGKILL if hard else _SIGTERM)

    def _signal_left(self, subject: Subject, number: int) -> None:
        session = self._folders.session(subject)
        if session:
            processes.signal_session(*session, number)
        processes.signal_marked(subject.mark, number)

    def retire(self, subject: Subject, pane: str | None) -> None:
        """See ports.Host."""
        self._wakes.unwatch(subject.issue)
        self._folders.forget(subject.attempt_id)
        self._activity.forget(subject.attempt_id)
        if subject.plan is not None:  # a person's own: it is left at its shell
            self.release_pane(subject.plan, subject.mark)
            return
        if pane is None or subject.foreign:
            return
        try:
            server = self._tmux.server()
            if server and self._tmux.pane_is(pane, server, subject.mark):
                self._tmux.kill_pane(pane, server)
        except TmuxError:
            return  # it is closed by itself or by the person who reads it
        finally:
            self._watch_connection()

    def put_away_signal(self, issue: str, attempt_id: str | None) -> None:
        """See ports.Host."""
        self._folders.put_away_signal(issue, attempt_id)


def _with_claim(seen: Evidence) -> Evidence:
    """An exit.json proves a claim that was deleted: its runner wrote it as its last act."""
    if seen.claim is not Claim.NONE or seen.exit is None:
        return seen
    ran = Answer.YES if seen.exit.refused is None else Answer.NO
    return msgspec.structs.replace(seen, claim=Claim.RUNNER, lock=Answer.NO, starting=ran)


def _with_survivors(seen: Evidence, subject: Subject, left: Answer) -> Evidence:
    """The evidence of an attempt that seems to be over, after the look for what is left of it.

    Where its folder was deleted the processes alone can tell: while one lives the attempt runs, and
    can be ended; when none does, one that was started has died.
    """
    if seen.starting is Answer.YES:
        # Its runner bears the mark too: that tells where a power cut took claim and lock.
        gone = seen.claim is Claim.NONE and left is Answer.NO
        lock = Answer.NO if gone else seen.lock
        return msgspec.structs.replace(seen, lock=lock, survivors=left)
    if left is Answer.UNKNOWN:
        return msgspec.structs.replace(seen, starting=left)
    if left is Answer.YES:
        return msgspec.structs.replace(seen, lock=left, starting=left)
    if seen.claim is Claim.RUNNER or subject.launched:
        return msgspec.structs.replace(seen, lock=left, starting=Answer.YES, survivors=left)
    return seen
