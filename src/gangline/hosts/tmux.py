"""The tmux host: sessions, windows and panes, and what is certain about them.

EVIDENCE.md section 1 lists thirteen traps of tmux; each is dodged here, in `tmux_server.py` or in
`tmux_control.py`, where its number is named. What must stay true: targets are ids or exact names,
never prefixes; text that is not ours is never read as a format, a shell line or a target; what is
not ours (the server's options, other sessions) is left as it is; and a probe that fails says
*unknown*, never *absent*. Whether a pane's agent is alive is not asked here: the attempt's lock
knows that (DESIGN.md section 4).
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from gangline.hosts.tmux_control import (
    Socket,
    TmuxError,
    TmuxGoneError,
    TmuxLostError,
    TmuxRefusedError,
    TmuxUnknownError,
)
from gangline.hosts.tmux_server import (
    ServerId,
    TmuxServer,
    choose_socket,
    parse_version,
    require_tmux,
)

__all__ = [
    "Pane",
    "PaneInfo",
    "ServerId",
    "Socket",
    "Tmux",
    "TmuxError",
    "TmuxGoneError",
    "TmuxLostError",
    "TmuxRefusedError",
    "TmuxUnknownError",
    "choose_socket",
    "require_tmux",
]

SIGCHLD_FIXED = (3, 6, "")  # from here on a swallowed SIGCHLD is made up for (trap 1)
WINDOW_NAME_LENGTH_MAX = 60
SESSION_TRIES_MAX = 20
SERVER_START_SECONDS_MAX = 30.0  # the user's settings come first, and may run programs
DISCARD_KEYS = "\x1bSS\x05\x15"  # in vi's ways: Esc, S, which changes the line; else Ctrl-E, -U
KEEPER_NAME = "gangline"
KEEPER = ("cat", "-")  # two elements, so no shell and no default-command comes between (trap 6)

_PANE_ID = re.compile(r"%[0-9]+\Z")
# tmux leaves a run of '#' before '[' alone and halves every other one.
_HASHES_READ_AS_FORMAT = re.compile(r"#+(?![#\[])")


class Pane(msgspec.Struct, frozen=True):
    """A pane that was just made: ids such as `%3` and `@3`, and the process id in it."""

    pane: str
    window: str
    pid: int


class PaneInfo(msgspec.Struct, frozen=True):
    """One pane of the server in one session; a window that is in two sessions gives two of these.

    `start_command` is how tmux writes the argv, `current_command` what is in the foreground: never
    identify an agent by the latter (trap 11). The texts are untrusted.
    """

    pane: str
    window: str
    session: str
    pid: int
    dead: bool
    window_name: str
    current_command: str
    start_command: str


class _Session(msgspec.Struct):
    id: str
    owner: str
    kept: bool  # it has a keeper window


def session_name(name: str) -> str:
    """The name as tmux keeps it: '.' and ':' are target syntax to it, and '#' a format."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def window_name(text: str) -> str:
    """Untrusted text as an argument of `-n`: one printable line, read as no format (trap 12)."""
    line = "".join([character if character.isprintable() else " " for character in text])
    # '##[' stays as it is in the name, and the status line shows it as '#[': a style is never read.
    return line[:WINDOW_NAME_LENGTH_MAX].replace("#", "##")


class Tmux(TmuxServer):
    """The sessions, windows and panes of one server. What any method may raise: `TmuxServer`."""

    # -- the session ----------------------------------------------------------------

    def ensure_session(self, name: str, owner: str) -> str:
        """Find or make the session of this owner, with a window that keeps it, and its server.

        Args:
            name: Wished for; what tmux cannot keep in a name becomes '_'.
            owner: Identifies the repository and the area; only a session that bears it is ours.

        Returns:
            The real name: with suffix -2, -3, … where a session of another owner has the name.
        """
        if not owner:
            raise ValueError("a session without an owner would be everyone's")
        wanted = session_name(name)
        family = re.compile(re.escape(wanted) + r"(-[0-9]+)?\Z")
        for _ in range(SESSION_TRIES_MAX):
            try:
                sessions, started = self._sessions(), False
            except TmuxGoneError:
                sessions, started = {}, True
            for found, session in sessions.items():
                if session.owner == owner and family.match(found):
                    if not session.kept:
                        self._open_window(found, KEEPER_NAME, KEEPER, ["@gangline_keeper"])
                    return found
            free = next(each for each in _numbered(wanted) if each not in sessions)
            refused = self._new_session(free, owner, server_too=started)
            if refused is None:
                return free
            if not refused.startswith("duplicate session"):
                raise TmuxRefusedError(refused)
            # Another process took the name since: look again, it may be ours.
        raise TmuxUnknownError(f"other processes keep taking the tmux session name {wanted}")

    def find_session(self, name: str, owner: str) -> str | None:
        """The real name of the session of this owner, or None; makes nothing."""
        family = re.compile(re.escape(session_name(name)) + r"(-[0-9]+)?\Z")
        try:
            sessions = self._sessions()
        except TmuxGoneError:
            return None
        return next((n for n, s in sessions.items() if s.owner == owner and family.match(n)), None)

    def _new_session(self, name: str, owner: str, *, server_too: bool) -> str | None:
        """Make the session, marked from its first instant; None, or why the server refused."""
        target = f"={name}:"
        session = ["set-option", "-t", target, "--"]
        commands = [
            ["new-session", "-d", "-s", name, "-n", KEEPER_NAME, "--", *KEEPER],
            [*session, "@gangline", "1"],
            [*session, "@gangline_owner", owner],
            [*session, "destroy-unattached", "off"],  # trap 9
            [*session, "detach-on-destroy", "on"],  # our client never wanders into another session
            ["set-option", "-w", "-t", target, "@gangline_keeper", "1"],
            ["set-option", "-w", "-t", target, "allow-rename", "off"],
        ]
        patience = self.timeout_seconds
        if server_too:  # it is ours then; else it would end with our client
            commands.append(["set-option", "-s", "exit-unattached", "off"])
            self.timeout_seconds = max(patience, SERVER_START_SECONDS_MAX)
        try:
            return self._run(commands).refused
        finally:
            self.timeout_seconds = patience

    def _sessions(self) -> dict[str, _Session]:
        rows = self._table(
            ["list-windows", "-a"],
            ["#{session_name}", "#{session_id}", "#{@gangline_owner}", "#{@gangline_keeper}"],
        )
        sessions: dict[str, _Session] = {}
        for name, number, owner, keeper in rows:
            session = sessions.setdefault(name, _Session(number, owner, kept=False))
            session.kept = session.kept or keeper == "1"
        return sessions

    def other_windows(self, session: str) -> int:
        """How many windows the session has beside its keeper."""
        rows = self._table(["list-windows", "-t", f"={session}"], ["#{@gangline_keeper}"])
        return sum(keeper != "1" for (keeper,) in rows)

    def kill_session_if_ours(self, name: str, owner: str) -> bool:
        """End the session and hang up its panes if it bears this owner; whether it did.

        Processes that ignore HUP live on (trap 10): reap them first.
        """
        session = self._session_of(name, owner)
        if session is None:
            return False
        if name == self._session:
            self.close()  # the answer must not end with the client that waits for it
        try:
            self.command("kill-session", "-t", session.id)
        except (TmuxGoneError, TmuxLostError):
            # With its last session the server ends, perhaps before it answers.
            if self._session_of(name, owner) is not None:
                raise
        return True

    def _session_of(self, name: str, owner: str) -> _Session | None:
        try:
            session = self._sessions().get(name)
        except TmuxGoneError:
            return None
        return session if session is not None and owner and session.owner == owner else None

    # -- windows and panes -------------------------------------------------------------------------

    def new_window(
        self, session: str, name: str, argv: Sequence[str], env: Mapping[str, str], cwd: str
    ) -> Pane:
        """Run a program in a window of its own at the end of the session; nobody's view changes.

        It does not raise when the program has ended already: the ids are then of a window that was.

        Args:
            session: Its real name.
            name: What the window is called; untrusted.
            argv: Two or more elements: one alone would be read by a shell.
            env: Set in the window in addition to the session's environment.
            cwd: Where it starts; where that is no folder tmux takes another: the program checks.

        Raises:
            ValueError: argv or env cannot be.
        """
        if len(argv) < 2:
            raise ValueError("argv needs two or more elements: tmux gives a single one to a shell")
        if any(not key or "=" in key for key in env):
            raise ValueError("a name in env may not be empty or hold '='")
        settings = [word for key, value in env.items() for word in ("-e", f"{key}={value}")]
        where = _HASHES_READ_AS_FORMAT.sub(lambda run: run[0] * 2, cwd)
        return self._open_window(session, name, argv, extra=["-c", where, *settings])

    def _open_window(
        self,
        session: str,
        name: str,
        argv: Sequence[str],
        marks: Sequence[str] = (),
        extra: Sequence[str] = (),
    ) -> Pane:
        # The server handles one sequence at a time and sees deaths only between two, and nothing is
        # behind the end: {end} is the new window also when its program has ended already.
        target = f"={session}:{{end}}"
        form = "#{pane_id} #{window_id} #{pane_pid}"
        made = ["new-window", "-d", "-a", "-P", "-F", form, "-t", target, "-n", window_name(name)]
        options = [("allow-rename", "off"), ("remain-on-exit", "off")]  # whatever the config says
        options += [(mark, "1") for mark in marks]
        answer = self._run(
            [
                [*made, *extra, "--", *argv],
                *(["set-option", "-q", "-w", "-t", target, *option] for option in options),
            ]
        )
        try:
            pane, window, pid = answer.lines[0].split(" ")
            return Pane(pane, window, int(pid))
        except (ValueError, IndexError):
            if answer.refused is not None:
                raise TmuxRefusedError(answer.refused) from None
            raise TmuxUnknownError("tmux did not say which window it made") from None

    def pane_table(self, formats: Sequence[str]) -> list[list[str]]:
        """These formats of every pane of the server, in order: sessions, their windows, panes."""
        return self._table(["list-panes", "-a"], formats)

    def panes(self) -> list[PaneInfo]:
        """Every pane of the server, in one call."""
        ids = ["#{pane_id}", "#{window_id}", "#{session_name}", "#{pane_pid}", "#{pane_dead}"]
        texts = ["#{window_name}", "#{pane_current_command}", "#{pane_start_command}"]
        return [
            PaneInfo(pane, window, session, int(pid or 0), dead == "1", *free)
            for pane, window, session, pid, dead, *free in self.pane_table([*ids, *texts])
        ]

    def pane_is(self, pane_id: str, server: ServerId, mark: str) -> bool | None:
        """Whether this pane is the attempt's: same server, its mark a word of the start command.

        A pane that is not there is not the attempt's. None: it cannot be known now. An attempt of
        the specification's shell has no mark, and so no pane that is ours to close.
        """
        if not mark:
            return False
        form = "#{pid}.#{start_time} #{pane_id} #{pane_start_command}"
        try:
            lines = self._lines(
                [["display-message", "-p", "-t", pane_target(pane_id), form]], repeatable=True
            )
        except TmuxGoneError:
            return False
        except TmuxUnknownError:
            return None
        except TmuxRefusedError as error:
            return False if error.message.startswith("can't find pane") else None
        found, _, rest = "\n".join(lines).partition(" ")
        # For a pane that is not there display-message may answer for another, or none (trap 3).
        pane, _, start_command = rest.partition(" ")
        if found != server.text or pane != pane_id:
            return False
        word = rf"(?<![\w.-]){re.escape(mark)}(?![\w.-])"
        return re.search(word, start_command) is not None

    def set_remain(self, pane: str, on: bool) -> None:
        """Whether the pane stays, dead, when its program has ended."""
        self.command(
            "set-option", "-p", "-t", pane_target(pane), "remain-on-exit", "on" if on else "off"
        )

    def kill_pane(self, pane: str, server: ServerId | None = None) -> None:
        """Hang up a pane and take it away; one that is not there is no error.

        Processes that ignore HUP live on (trap 10). With `server`, nothing is done if another life
        of the server answers: there the id is someone else's.
        """
        try:
            if server is None or self.server() == server:
                self.command("kill-pane", "-t", pane_target(pane))
        except TmuxGoneError:
            return
        except TmuxRefusedError as error:
            if not error.message.startswith("can't find pane"):
                raise

    def send_line(self, pane: str, text: str, *, discard: bool = False) -> None:
        """Put a line of text and Enter into the pane's terminal, also while someone scrolls in it.

        Nothing of the text is a key name or an option (trap 7). A busy reader may still swallow it.
        With `discard` the keys come first that take back a line somebody has begun to type.

        Raises:
            ValueError: the text holds control characters.
        """
        if not text.isprintable():
            raise ValueError("a line to type may not hold control characters")
        target, buffer = pane_target(pane), f"gangline-{os.urandom(8).hex()}"
        answer = self._run(
            [
                ["set-buffer", "-b", buffer, "--", f"{DISCARD_KEYS * discard}{text}\r"],
                ["paste-buffer", "-d", "-r", "-b", buffer, "-t", target],
            ]
        )
        if answer.refused is not None:
            self._run([["delete-buffer", "-b", buffer]])
            raise TmuxRefusedError(answer.refused)

    def heal(self) -> int:
        """Tell the server of deaths that it has missed (trap 1); how many there were.

        libutempter can swallow the SIGCHLD of a tmux before 3.6; the pane then has no exit status.
        """
        missed = sum(_is_unreaped(pane.pid, dead=pane.dead) for pane in self.panes())
        if not missed:
            return 0
        pid, _, text = self.command("display-message", "-p", "#{pid} #{version}")[0].partition(" ")
        version = parse_version(text)
        if version is None or version >= SIGCHLD_FIXED:
            return 0
        import signal  # noqa: PLC0415 - needed here only, and rarely

        try:
            os.kill(int(pid), signal.SIGCHLD)
        except OSError:  # it has ended since, or is another user's: nothing depends on it
            return 0
        return missed


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def pane_target(pane: str) -> str:
    """A pane id as the argument of `-t`; ValueError for anything else."""
    if not _PANE_ID.match(pane):
        raise ValueError(
            f"{pane!r} is no tmux pane id"
        )  # anything else is matched loosely (trap 3)
    return pane


def _is_unreaped(pid: int, *, dead: bool) -> bool:
    """Whether the pane's process has ended and the server does not know."""
    if pid <= 0:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] == b"Z"
    except (FileNotFoundError, ProcessLookupError):
        # No such process; or no /proc: then it is not Linux, whose libutempter alone does this.
        return not dead and os.path.exists("/proc/self/stat")
