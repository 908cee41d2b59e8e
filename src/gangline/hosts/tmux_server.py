"""One tmux server: which it is, whether it is there, and the best way to ask it anything.

It joins the two transports of `tmux_control.py` under one rule: a command that may have run is not
run again. The control connection carries everything while there is one; when it breaks it is made
again once, and where there is nothing to attach to each command is a process. A hanging server is
*unknown* after the timeout on either way, and its connection is given up, for its answers would be
out of step.
"""

import os
import re
import time
from collections.abc import Mapping, Sequence

import msgspec

from gangline.errors import ConfigError, MachineError
from gangline.hosts.tmux_control import (
    Answer,
    Commands,
    ControlConnection,
    NotSentError,
    Socket,
    TmuxGoneError,
    TmuxLostError,
    TmuxRefusedError,
    TmuxUnknownError,
    check_size,
    one_shot,
    tmux_missing,
)

VERSION_MIN = (3, 2, "a")  # -e, pane options (trap 13)
SOCKET_PATH_BYTES_MAX = 103  # sun_path on macOS; Linux has four more

_VERSION = re.compile(r"(?:tmux )?(?:next-)?([0-9]+)\.([0-9]+)([a-z]?)")
_OPENBSD = re.compile(r"(?:tmux )?openbsd-([0-9]+)\.")


class ServerId(msgspec.Struct, frozen=True):
    """Which life of a server: ids such as `%0` begin again with each (trap 2).

    Attributes:
        pid: Process id of the server.
        start_time: Seconds since the epoch.
    """

    pid: int
    start_time: int

    @property
    def text(self) -> str:
        """The form that is recorded: `PID.START_TIME`."""
        return f"{self.pid}.{self.start_time}"


def choose_socket(setting: str | None, environ: Mapping[str, str]) -> Socket:
    """The server to use: what `[tmux] socket` says, else the one this runs in, else the default.

    Raises:
        ConfigError: the setting can be no socket.
    """
    if setting is not None:
        length = len(os.fsencode(setting))
        if not setting.isprintable() or setting in {"", ".", ".."}:
            problem = "is no name or path"
        elif length > SOCKET_PATH_BYTES_MAX:
            problem = f"has {length} bytes; a socket's path holds {SOCKET_PATH_BYTES_MAX}"
        else:
            return Socket("path" if "/" in setting else "name", setting)
        raise ConfigError(
            f"the tmux socket {setting[:SOCKET_PATH_BYTES_MAX]!r} {problem}",
            place="gangline.toml: tmux.socket",
            hint='write a name as for `tmux -L` or a path as for `tmux -S`: socket = "gangline"',
        )
    inside = environ.get("TMUX", "").rsplit(",", 2)[0]  # PATH,PID,SESSION
    return Socket("path", inside) if inside else Socket("name", "default")


def own_server_pid(environ: Mapping[str, str]) -> int | None:
    """The process of the tmux server that this runs in a pane of; None outside of tmux."""
    path, *rest = environ.get("TMUX", "").rsplit(",", 2)  # PATH,PID,SESSION
    return int(rest[0]) if path and rest and rest[0].isdigit() else None


def parse_version(text: str) -> tuple[int, int, str] | None:
    """The version that `tmux -V` or `#{version}` says; None where it names none (`master`)."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), found[3]) if found else None


def require_tmux() -> str:
    """The version of the tmux on PATH, such as `3.3a`.

    Raises:
        MachineError: there is none, it is older than 3.2a, or it does not say.
    """
    import subprocess  # noqa: PLC0415 - 10 ms that a command which needs no tmux does not pay

    try:
        done = subprocess.run(
            ["tmux", "-V"], capture_output=True, text=True, timeout=10, check=False
        )
    except FileNotFoundError as error:
        raise tmux_missing() from error
    except OSError as error:
        raise MachineError(
            "tmux cannot be started",
            causes=[str(error)],
            hint="install it anew: apt install tmux, dnf install tmux or brew install tmux",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise MachineError("`tmux -V` did not answer within 10 s") from error
    text = done.stdout.strip().removeprefix("tmux ")
    version, openbsd = parse_version(text), _OPENBSD.match(text)
    if openbsd:
        new_enough = int(openbsd[1]) >= 7  # the tmux of OpenBSD 7.0 is later than 3.2a
    else:
        new_enough = version >= VERSION_MIN if version else text == "master"
    if not new_enough:
        raise MachineError(
            f"tmux 3.2a or later is needed; this is {text or 'a tmux that does not say'}",
            hint="update it: apt install tmux, dnf install tmux or brew install tmux",
        )
    return text


class TmuxServer:
    """One tmux server. Not safe for threads; not to be used after a fork.

    Any method that asks the server may raise `TmuxUnknownError`, `TmuxGoneError`,
    `TmuxRefusedError`, and `MachineError` where tmux is not installed.

    Args:
        socket: The server, existing or not.
        timeout_seconds: How long one command may take.
        config: The `-f` file for a server that this starts; None is the user's own.
    """

    def __init__(
        self, socket: Socket, *, timeout_seconds: float = 5.0, config: str | None = None
    ) -> None:
        self.socket = socket
        self.timeout_seconds = timeout_seconds
        self._config = config
        self._connection: ControlConnection | None = None
        self._session: str | None = None  # what to attach to again after a loss

    # -- the connection ----------------------------------------------------------------------------

    def connect(self, session: str) -> None:
        """Attach a control client to the session; from now on it carries every command.

        Raises:
            TmuxRefusedError: no such session.
        """
        self.close()
        self._attach(session)
        self._session = session

    def _attach(self, session: str) -> None:
        # attach-session starts a server where there is none, so ask first something that does not.
        one_shot(self.socket, [["display-message", "-p", ""]], timeout_seconds=self.timeout_seconds)
        self._connection = ControlConnection(self.socket, session, self.timeout_seconds)

    def close(self) -> None:
        """End the control client, if there is one. Commands still work, each by a process."""
        self._session = None
        self._drop()

    def fileno(self) -> int | None:
        """What a selector watches, to call `drain` on it; None without a connection."""
        return self._connection.fileno() if self._connection else None

    def drain(self) -> bool:
        """Drop pending notifications without waiting; False if there is no connection (any more).

        A lost one is closed: take its descriptor, remembered from `fileno`, out of the selector.
        """
        if self._connection and not self._connection.drain():
            self._drop()
        return self._connection is not None

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def _reconnected(self) -> ControlConnection | None:
        if self._connection is None and self._session is not None:
            try:
                self._attach(self._session)
            except (TmuxRefusedError, TmuxGoneError, TmuxLostError):
                self._session = None  # it is not there to attach to; connect() says if it is again
        return self._connection

    # -- commands ----------------------------------------------------------------------------------

    def command(self, *argv: str) -> list[str]:
        """The output lines of one command; not for one that runs others, such as `if-shell`."""
        return self._lines([argv])

    def _lines(self, commands: Commands, *, repeatable: bool = False) -> list[str]:
        answer = self._run(commands, repeatable=repeatable)
        if answer.refused is not None:
            raise TmuxRefusedError(answer.refused)
        return answer.lines

    def _run(self, commands: Commands, *, repeatable: bool = False) -> Answer:
        """Run a sequence once; with `repeatable` (it only reads) again, if its connection broke."""
        check_size(commands)
        # TmuxUnknownError from here: the server hangs, a process of its own would hang as well.
        connection = self._reconnected()
        if connection is not None:
            try:
                return connection.exchange(commands)
            except NotSentError:
                self._drop()
            except TmuxLostError:
                self._drop()
                if not repeatable:
                    raise
            except ValueError:
                raise  # refused before anything was written
            except BaseException:
                self._drop()  # its answers would be out of step
                raise
        return self._one_shot(commands, repeatable=repeatable)

    def _one_shot(self, commands: Commands, *, repeatable: bool) -> Answer:
        deadline = time.monotonic() + self.timeout_seconds
        while True:
            try:
                return one_shot(
                    self.socket, commands, timeout_seconds=self.timeout_seconds, config=self._config
                )
            except TmuxLostError:
                # A server on its way out still takes connections, for some milliseconds.
                if not repeatable or time.monotonic() > deadline:
                    raise

    def _table(self, command: Sequence[str], fields: Sequence[str]) -> list[list[str]]:
        """The rows of a list command, whatever its texts hold: the parting cannot be guessed."""
        parting = os.urandom(8).hex()
        row = parting.join(["", *fields, ""])
        cells = "\n".join(self._lines([[*command, "-F", row]], repeatable=True)).split(parting)
        width = len(fields)
        if len(cells) % (width + 1) != 1:
            raise TmuxUnknownError("tmux answered in a form that is not understood")
        return [cells[at : at + width] for at in range(1, len(cells) - 1, width + 1)]

    def server(self) -> ServerId | None:
        """Which server answers on the socket; None: proven, none.

        Raises:
            TmuxUnknownError: it cannot be known now.
        """
        try:
            lines = self._lines(
                [["display-message", "-p", "#{pid} #{start_time}"]], repeatable=True
            )
            pid, start_time = lines[0].split(" ")
            return ServerId(int(pid), int(start_time))
        except TmuxGoneError:
            return None
        except (TmuxRefusedError, ValueError, IndexError) as error:
            raise TmuxUnknownError(f"tmux did not say which server it is: {error}") from error
