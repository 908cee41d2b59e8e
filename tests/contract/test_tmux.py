"""The tmux adapter against real tmux servers, each on a private socket (EVIDENCE.md section 1).

The number of the trap that a test guards stands in its comment. Nothing here waits a fixed time:
programs in panes answer through FIFOs, deaths are seen by polling descriptors, both with a deadline
that only a failure reaches.
"""

import itertools
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gangline.errors import ConfigError, MachineError
from gangline.hosts import tmux as tmux_module
from gangline.hosts.tmux import (
    PaneInfo,
    ServerId,
    Socket,
    Tmux,
    TmuxGoneError,
    TmuxLostError,
    TmuxRefusedError,
    TmuxUnknownError,
    choose_socket,
    require_tmux,
    window_name,
)
from gangline.hosts.tmux_control import COMMAND_BYTES_MAX, AnswerParser, ControlConnection, quote
from gangline.hosts.tmux_server import parse_version

DEADLINE_SECONDS = 20.0
OWNER = "/repository\tclient"
HOSTILE_CONFIG = """
set -g default-command "echo hijacked"
set -g default-shell /bin/false
set -g destroy-unattached on
set -g detach-on-destroy off
set -s exit-unattached on
set -g base-index 1
set -g pane-base-index 1
set -g renumber-windows on
set -g remain-on-exit on
set -g allow-rename on
set -g automatic-rename on
set-hook -g after-new-window "display-message -p hook"
set-hook -g after-new-session "display-message -p hook"
"""
NASTY = [
    "",
    ";",
    "a;",
    "a\\;",
    "\\",
    "~",
    "~root",
    "{",
    "}",
    "#{pane_id}",
    "#(x)",
    "$HOME",
    "${HOME}",
]
NASTY += [
    "%if",
    "-t",
    "--",
    "'",
    '"',
    "a'b\"c",
    "a\nb",
    "\n",
    "\r",
    "\t",
    "\x1b[31m",
    "\x7f",
    "é 日本 😀",
]
NASTY += ["#", "a b", "\\n", "\\012", "`id`", "|", "&", "%%", "C-c", "Enter", "\udcff", "\\u0041"]

numbers = itertools.count()


@pytest.fixture(autouse=True)
def _poor_environment(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")  # trap 4
    monkeypatch.setenv("TMUX", "/nonexistent/socket,1,0")  # trap 5
    monkeypatch.setenv("TMUX_PANE", "%0")


@pytest.fixture(scope="module")
def new_server():
    """Makes `Tmux` objects, each on a socket of its own; ends their servers."""
    made = []

    def make(config="/dev/null", timeout_seconds=DEADLINE_SECONDS):
        socket = Socket("name", f"gangline-test-{os.getpid()}-{next(numbers)}")
        made.append(Tmux(socket, timeout_seconds=timeout_seconds, config=config))
        return made[-1]

    yield make
    for tmux in made:
        tmux.close()
        name = tmux.socket.value
        subprocess.run(["tmux", "-L", name, "kill-server"], capture_output=True, check=False)
        for left in (name, f"{name}.lock"):
            (Path("/tmp") / f"tmux-{os.getuid()}" / left).unlink(missing_ok=True)


@pytest.fixture
def tmux(new_server):
    """A server that is not started yet."""
    made = new_server()
    yield made
    made.close()


@pytest.fixture(params=["control", "one-shot"])
def session(request, tmux):
    """A session of ours; every test that takes it runs over both transports."""
    name = tmux.ensure_session("client", OWNER)
    if request.param == "control":
        tmux.connect(name)
    return name


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture(scope="module")
def shared(new_server):
    """A started server, connected, for property tests."""
    tmux = new_server()
    tmux.connect(tmux.ensure_session("shared", OWNER))
    return tmux


def everything_written_to(fifo, start):
    """What programs write into the FIFO from `start()` on, up to the last one's end."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        start()
        written = b""
        while True:
            assert readable(reader), "nothing was written in time"
            data = os.read(reader, 65_536)
            if not data:
                return written
            written += data
    finally:
        os.close(reader)


def readable(descriptor):
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(DEADLINE_SECONDS * 1000))


def comes_true(claim):
    """Ask again until it holds; False after the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def run_in_pane(tmux, session, fifo, script, *arguments, env=None, cwd="/", name="job"):
    """What a shell script in a new window writes to its standard output."""
    argv = ["sh", "-c", f'exec >"$0"; {script}', str(fifo), *arguments]
    return everything_written_to(fifo, lambda: tmux.new_window(session, name, argv, env or {}, cwd))


def outside(tmux, *argv):
    """A command of another client, as a person would give it."""
    done = subprocess.run(
        ["tmux", "-u", *tmux.socket.args(), *argv], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def wait_for_loss(tmux):
    descriptor = tmux.fileno()
    while tmux.drain():
        assert readable(descriptor), "the connection was not lost"


def client_pid(tmux):
    return int(outside(tmux, "list-clients", "-F", "#{client_pid}")[0])


# -- which tmux ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "environ", "expected"),
    [
        (None, {}, Socket("name", "default")),
        (None, {"TMUX": ""}, Socket("name", "default")),
        (None, {"TMUX": "/tmp/tmux-1/default,77,0"}, Socket("path", "/tmp/tmux-1/default")),
        (None, {"TMUX": "/tmp/a,b,77,0"}, Socket("path", "/tmp/a,b")),
        ("work", {"TMUX": "/tmp/tmux-1/default,77,0"}, Socket("name", "work")),
        ("/run/t", {}, Socket("path", "/run/t")),
    ],
)
def test_socket_is_decided_explicitly(setting, environ, expected):
    assert choose_socket(setting, environ) == expected


@pytest.mark.parametrize("setting", ["", "..", "a\nb", "a\0b", "/" + "x" * 200])
def test_unusable_socket_setting_is_refused(setting):
    with pytest.raises(ConfigError) as caught:
        choose_socket(setting, {})
    assert caught.value.hint
    assert caught.value.place == "gangline.toml: tmux.socket"


def test_socket_arguments_choose_the_kind():
    assert Socket("name", "a").args() == ["-L", "a"]
    assert Socket("path", "/a").args() == ["-S", "/a"]


def fake_tmux(tmp_path, monkeypatch, output):
    program = tmp_path / "tmux"
    program.write_text(f"#!/bin/sh\necho '{output}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize(
    "version", ["3.2a", "3.3", "3.3a", "3.10", "4.0", "next-3.5", "master", "openbsd-7.4"]
)
def test_new_enough_version_is_taken(version, tmp_path, monkeypatch):
    fake_tmux(tmp_path, monkeypatch, f"tmux {version}")
    assert require_tmux() == version


@pytest.mark.parametrize(
    "version", ["3.2", "3.1c", "2.9a", "1.8", "next-3.2", "openbsd-6.8", "?", ""]
)
def test_old_or_unknown_version_is_refused_with_a_hint(version, tmp_path, monkeypatch):
    fake_tmux(tmp_path, monkeypatch, f"tmux {version}")
    with pytest.raises(MachineError) as caught:
        require_tmux()
    assert "3.2a" in caught.value.message
    assert caught.value.hint


def test_missing_tmux_is_named_with_a_hint(tmp_path, monkeypatch, tmux):
    monkeypatch.setenv("PATH", str(tmp_path))
    for ask in (require_tmux, tmux.server):
        with pytest.raises(MachineError) as caught:
            ask()
        assert "install tmux" in caught.value.hint


def test_tmux_of_this_machine_is_accepted():
    assert f"tmux {require_tmux()}" == subprocess.check_output(["tmux", "-V"], text=True).strip()


# -- the control protocol --------------------------------------------------------------------------

STREAM = (
    b"%begin 17 1 0\n%end 17 1 0\n%session-changed $0 a\n"
    b"%begin 17 2 1\none\n%end 17 2 0\n%end 17 1 1\n%exit\n%begin 17 9 1\ntwo\n%end 17 2 1\n"
    b"%begin 17 3 0\nhook\n%end 17 3 0\n%window-add @1\n"
    b"%begin 17 4 1\nno such thing\nat all\n%error 17 4 1\n%begin 17 5 1\n\xff\n%end 17 5 1\n"
)


@given(cuts=st.lists(st.integers(0, len(STREAM))))
def test_answers_are_the_same_however_the_bytes_arrive(cuts):
    parser = AnswerParser()
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        parser.feed(STREAM[start:end])
    ours = [answer for asked, answer in parser.answers if asked]
    assert [len(parser.answers), len(ours)] == [5, 3]
    # Output that looks like a guard or a notification is output.
    guards = ["%end 17 2 0", "%end 17 1 1", "%exit", "%begin 17 9 1"]
    assert ours[0].lines == ["one", *guards, "two"]
    assert ours[0].refused is None
    assert (ours[1].lines, ours[1].refused) == ([], "no such thing\nat all")
    assert ours[2].lines == ["\\xff"]
    assert not parser.exited
    parser.feed(b"%exit server exited\n")
    assert parser.exited


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("no server running on /tmp/x", TmuxGoneError),
        ("error connecting to /tmp/x (No such file or directory)", TmuxGoneError),
        ("error connecting to /tmp/x (Connection refused)", TmuxGoneError),
        ("error connecting to /tmp/x (Permission denied)", TmuxUnknownError),
        ("error connecting to /tmp/x (Too many open files)", TmuxUnknownError),
        ("server exited unexpectedly", TmuxLostError),
        ("lost server", TmuxLostError),
        ("", TmuxUnknownError),
        ("no current target", TmuxRefusedError),
    ],
)
def test_absence_is_claimed_only_where_tmux_proves_it(message, expected, tmp_path, monkeypatch):
    fake_tmux(tmp_path, monkeypatch, "")
    (tmp_path / "tmux").write_text(f"#!/bin/sh\necho '{message}' >&2\nexit 1\n")
    tmux = Tmux(Socket("name", "none"), timeout_seconds=0.1)
    with pytest.raises(expected) as caught:
        tmux.command("list-panes")
    assert caught.type is expected
    if expected is TmuxGoneError:
        assert tmux.server() is None
    else:
        with pytest.raises(TmuxUnknownError):
            tmux.server()


def test_nul_is_refused():
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")


texts = st.text(
    st.one_of(
        st.sampled_from("#{};~$\\'\"\n\r\t%- é\x1b\udcff\udc80"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    )
)
several = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@several
@given(text=texts)
def test_any_text_reaches_the_server_over_control_mode(shared, text):
    shared.command("set-option", "-s", "--", "@text", text)
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    assert "\n".join(shared.command("display-message", "-p", "#{@text}")) == shown


@several
@given(arguments=st.lists(texts, min_size=1, max_size=5))
def test_any_arguments_arrive_exactly(shared, tmp_path_factory, arguments):
    arrive_exactly(shared, "shared", tmp_path_factory, arguments)


def test_nasty_arguments_arrive_exactly(session, tmux, tmp_path_factory):
    arrive_exactly(tmux, session, tmp_path_factory, NASTY)


def arrive_exactly(tmux, session, tmp_path_factory, arguments):
    fifo = tmp_path_factory.mktemp("argv") / "fifo"
    os.mkfifo(fifo)
    script = 'printf "%s\\0" "$TEXT" "$@"'
    text = "".join(arguments)
    got = run_in_pane(tmux, session, fifo, script, *arguments, env={"TEXT": text})
    expected = [each.encode("utf-8", "surrogateescape") for each in [text, *arguments]]
    assert got.split(b"\0")[:-1] == expected


def test_command_over_the_limit_is_refused_before_it_is_sent(session, tmux):  # trap 8
    longest = COMMAND_BYTES_MAX - len("set-option -s -- @text ")
    tmux.command("set-option", "-s", "--", "@text", "\n" * (longest - 1))
    with pytest.raises(TmuxRefusedError, match="16,001 bytes"):
        tmux.command("set-option", "-s", "--", "@text", "\n" * longest)
    assert tmux.command("display-message", "-p", "#{n:@text}") == [str(longest - 1)]


def test_refusal_is_told_in_the_servers_words(session, tmux):
    with pytest.raises(TmuxRefusedError, match="can't find pane: %77") as caught:
        tmux.command("kill-pane", "-t", "%77")
    assert caught.value.message == "can't find pane: %77"
    with pytest.raises(TmuxRefusedError, match="unknown command"):
        tmux.command("no-such-command", ";", "kill-server")
    assert tmux.server() is not None


# -- the connection --------------------------------------------------------------------------------


def test_connection_is_one_quiet_client(tmux):
    tmux.connect(tmux.ensure_session("client", OWNER))
    (line,) = outside(tmux, "list-clients", "-F", "#{client_control_mode} #{client_flags}")
    assert line.startswith("1 ")
    for flag in ("no-output", "ignore-size", "UTF-8"):
        assert flag in line
    tmux.close()
    assert tmux.fileno() is None
    assert comes_true(lambda: outside(tmux, "list-clients") == [])
    assert tmux.server() is not None


def test_client_is_out_of_reach_of_the_terminal_and_holds_no_descriptor_of_ours(tmux, tmp_path):
    with (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        tmux.connect(tmux.ensure_session("client", OWNER))
        client, server = client_pid(tmux), tmux.server().pid
        assert os.getsid(client) == client
        if sys.platform == "linux":
            for pid in (client, server):
                links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
                assert links
                assert lock.name not in links


def test_connecting_starts_no_server(tmux):
    with pytest.raises(TmuxGoneError):
        tmux.connect("client")
    assert tmux.server() is None


def test_connecting_to_a_missing_session_is_refused_and_matches_no_prefix(tmux):  # trap 3
    tmux.ensure_session("client-long", OWNER)
    with pytest.raises(TmuxRefusedError, match="client"):
        tmux.connect("client")
    assert tmux.fileno() is None


def test_pending_notifications_are_drained(tmux):
    tmux.connect(tmux.ensure_session("client", OWNER))
    outside(tmux, "new-window", "-d", "-t", "=client:", "cat", "-")
    assert readable(tmux.fileno())
    assert tmux.drain()
    tmux.command("display-message", "-p", "in step")
    tmux.drain()
    assert not select.select([tmux.fileno()], [], [], 0)[0]


@pytest.mark.parametrize("how", ["kill-server", "SIGKILL"])
def test_server_killed_while_connected_is_noticed_and_proven_gone(tmux, how):
    tmux.connect(tmux.ensure_session("client", OWNER))
    server = tmux.server()
    if how == "SIGKILL":
        os.kill(server.pid, signal.SIGKILL)
    else:
        outside(tmux, "kill-server")
    wait_for_loss(tmux)
    assert tmux.fileno() is None
    assert tmux.server() is None
    assert tmux.pane_is("%0", server, "mark") is False
    with pytest.raises(TmuxGoneError):
        tmux.panes()
    # The next life has other ids, and a connection is made when asked for.
    tmux.connect(tmux.ensure_session("client", OWNER))
    assert tmux.server() not in {None, server}


def test_question_that_broke_the_connection_is_asked_again(tmux):
    tmux.connect(tmux.ensure_session("client", OWNER))
    os.kill(tmux.server().pid, signal.SIGKILL)
    assert tmux.server() is None  # noticed or not, whatever instant the connection broke at


def test_killed_client_is_replaced_without_a_word(tmux):
    tmux.connect(tmux.ensure_session("client", OWNER))
    os.kill(client_pid(tmux), signal.SIGKILL)
    wait_for_loss(tmux)
    assert tmux.command("display-message", "-p", "still here") == ["still here"]
    assert tmux.fileno() is not None


def test_session_killed_under_the_connection_leaves_one_shot_commands(tmux):
    tmux.ensure_session("other", "someone else")
    tmux.connect(tmux.ensure_session("client", OWNER))
    outside(tmux, "set-option", "-g", "detach-on-destroy", "off")  # ours does not go elsewhere
    outside(tmux, "kill-session", "-t", "=client")
    wait_for_loss(tmux)
    assert tmux.command("list-sessions", "-F", "#{session_name}") == ["other"]
    assert tmux.fileno() is None


def test_command_whose_connection_broke_after_sending_is_not_repeated(tmux, monkeypatch):
    session = tmux.ensure_session("client", OWNER)
    tmux.connect(session)
    server = tmux.server()
    os.kill(server.pid, signal.SIGSTOP)  # it cannot answer before it is killed
    send = ControlConnection._send

    def send_and_kill(connection, data, deadline):
        send(connection, data, deadline)
        os.kill(server.pid, signal.SIGKILL)

    monkeypatch.setattr(ControlConnection, "_send", send_and_kill)
    with pytest.raises(TmuxLostError):  # by a process of its own it would be TmuxGoneError
        tmux.new_window(session, "job", ["cat", "-"], {}, "/")
    assert tmux.fileno() is None


def test_command_that_was_not_sent_goes_another_way(tmux, monkeypatch):
    session = tmux.ensure_session("client", OWNER)
    tmux.connect(session)
    connection = tmux._connection
    # The pipe breaks between the look for a loss and the write.
    unread, broken = os.pipe()
    os.close(unread)
    monkeypatch.setattr(connection, "_to_server", broken)
    tmux.new_window(session, "job", ["cat", "-"], {}, "/")
    os.close(broken)
    assert tmux.other_windows(session) == 1


def test_interrupted_command_does_not_put_later_answers_out_of_step(tmux, monkeypatch):
    tmux.connect(tmux.ensure_session("client", OWNER))

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ControlConnection, "_wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tmux.command("display-message", "-p", "first")
    assert tmux.command("display-message", "-p", "second") == ["second"]


@pytest.mark.parametrize("connected", [True, False])
def test_hanging_server_is_unknown_in_time_and_recovers(new_server, connected):
    tmux = new_server(timeout_seconds=0.5)
    session = tmux.ensure_session("client", OWNER)
    if connected:
        tmux.connect(session)
    server = tmux.server()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for ask in (tmux.server, tmux.panes, lambda: tmux.command("display-message", "-p", "late")):
            started = time.monotonic()
            with pytest.raises(TmuxUnknownError):
                ask()
            assert time.monotonic() - started < 5
        assert tmux.pane_is("%0", server, "mark") is None
    finally:
        os.kill(server.pid, signal.SIGCONT)
    tmux.timeout_seconds = DEADLINE_SECONDS
    assert tmux.command("display-message", "-p", "again") == ["again"]
    assert tmux.server() == server
    # The clients that were given up do not pile up.
    assert comes_true(lambda: len(outside(tmux, "list-clients")) == int(connected))
    tmux.close()


def test_two_servers_are_told_apart(new_server):  # trap 2
    one, two = new_server(), new_server()
    for tmux in (one, two):
        tmux.connect(tmux.ensure_session("client", OWNER))
    assert one.panes()[0].pane == two.panes()[0].pane == "%0"
    assert one.server() != two.server()
    assert one.server().text == f"{one.server().pid}.{one.server().start_time}"
    (pane,) = one.panes()
    assert one.pane_is(pane.pane, one.server(), "cat") is True
    assert two.pane_is(pane.pane, one.server(), "cat") is False
    two.kill_pane("%0", one.server())
    assert len(two.panes()) == 1


def test_hooks_of_the_user_do_not_answer_for_us(session, tmux):
    for event in ("after-new-window", "after-list-panes", "after-display-message"):
        outside(tmux, "set-hook", "-g", event, "display-message -p hook")
    for number in range(3):
        assert tmux.new_window(session, "job", ["cat", "-"], {}, "/").pane == f"%{number + 1}"
        assert len(tmux.panes()) == number + 2


# -- the session -----------------------------------------------------------------------------------


def test_session_is_made_once_and_marked(tmux):
    assert tmux.server() is None
    assert tmux.ensure_session("client", OWNER) == "client"
    assert tmux.ensure_session("client", OWNER) == "client"
    (line,) = outside(
        tmux, "list-windows", "-a", "-F", "#{window_name} #{@gangline} #{@gangline_owner}"
    )
    assert line == f"gangline 1 {OWNER}"
    assert tmux.other_windows("client") == 0


def test_name_of_another_owner_is_not_taken(tmux):
    outside(tmux, "-f", "/dev/null", "new-session", "-d", "-s", "client")
    assert tmux.ensure_session("client", "first") == "client-2"
    assert tmux.ensure_session("client", "second") == "client-3"
    outside(tmux, "kill-session", "-t", "=client")
    assert tmux.ensure_session("client", "second") == "client-3"
    assert tmux.ensure_session("client", "third") == "client"


def test_area_with_a_dot_gets_the_name_that_tmux_gives_it(tmux):
    assert tmux.ensure_session("client.v1:#S", OWNER) == "client_v1__S"
    assert tmux.ensure_session("client.v1:#S", OWNER) == "client_v1__S"
    assert tmux.new_window("client_v1__S", "job", ["cat", "-"], {}, "/").pane == "%1"


def test_owner_may_hold_anything(session, tmux):
    owner = "#{pid} ; -a \n %exit ' \" é"
    assert tmux.ensure_session("odd", owner) == "odd"
    assert tmux.ensure_session("odd", owner) == "odd"
    assert tmux.ensure_session("odd", "-" + owner) == "odd-2"
    with pytest.raises(ValueError, match="owner"):
        tmux.ensure_session("odd", "")


def test_processes_that_ask_at_once_get_one_session(tmux, monkeypatch):
    script = (
        "import sys; from gangline.hosts.tmux import *;"
        "t = Tmux(Socket('name', sys.argv[1]), config='/dev/null', timeout_seconds=20);"
        "print('ready', flush=True); sys.stdin.readline();"
        "print(t.ensure_session('client', sys.argv[2]))"
    )
    argv = [sys.executable, "-c", script, tmux.socket.value]
    started = [
        subprocess.Popen([*argv, owner], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for owner in ["first"] * 4 + ["second"] * 2
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    names = [process.communicate(timeout=DEADLINE_SECONDS * 2)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0] * 6
    assert len(set(names[:4])) == 1
    assert len(set(names[4:])) == 1
    assert {names[0], names[4]} == {"client", "client-2"}
    assert len(outside(tmux, "list-windows", "-a")) == 2


def test_hostile_config_changes_nothing(new_server, tmp_path, fifo):  # traps 6 and 9
    config = tmp_path / "tmux.conf"
    config.write_text(HOSTILE_CONFIG)
    tmux = new_server(config=str(config))
    session = tmux.ensure_session("client", OWNER)
    (keeper,) = tmux.panes()
    assert keeper.start_command == "cat -"
    tmux.connect(session)
    assert run_in_pane(tmux, session, fifo, "echo ran") == b"ran\n"
    tmux.close()
    # Neither the end of the only client nor of a window ends the session, and no dead window stays.
    assert comes_true(lambda: [pane.pane for pane in tmux.panes()] == [keeper.pane])
    assert tmux.panes()[0].dead is False
    pane = tmux.new_window(session, "job", ["cat", "-"], {}, "/")
    shown = outside(tmux, "show-options", "-w", "-t", pane.window)
    assert {"allow-rename off", "automatic-rename off", "remain-on-exit off"} <= set(shown)


def test_what_is_not_ours_keeps_its_options(tmux):  # trap 9
    outside(tmux, "-f", "/dev/null", "new-session", "-d", "-s", "mine", "cat", "-")
    before = outside(tmux, "show-options", "-s"), outside(tmux, "show-options", "-g")
    tmux.connect(tmux.ensure_session("client", OWNER))
    tmux.new_window("client", "job", ["cat", "-"], {}, "/")
    assert (outside(tmux, "show-options", "-s"), outside(tmux, "show-options", "-g")) == before
    assert outside(tmux, "show-options", "-t", "=mine:") == []
    assert outside(tmux, "show-options", "-w", "-t", "=mine:") == []


def test_keeper_that_was_closed_is_put_back(session, tmux):
    (keeper,) = tmux.panes()
    tmux.new_window(session, "job", ["cat", "-"], {}, "/")
    tmux.kill_pane(keeper.pane)
    assert [tmux.ensure_session("client", OWNER) for _ in range(2)] == [session] * 2
    assert [pane.window_name for pane in tmux.panes()] == ["job", "gangline"]
    assert tmux.other_windows(session) == 1


def test_only_our_session_is_killed(session, tmux):
    outside(tmux, "new-session", "-d", "-s", "mine", "cat", "-")
    outside(tmux, "new-session", "-d", "-s", "client-long", "cat", "-")
    for name, owner in [("mine", OWNER), ("mine", ""), ("cli", OWNER), (session, "another")]:
        assert tmux.kill_session_if_ours(name, owner) is False
    assert tmux.kill_session_if_ours(session, OWNER) is True
    assert tmux.kill_session_if_ours(session, OWNER) is False
    assert outside(tmux, "list-sessions", "-F", "#{session_name}") == ["client-long", "mine"]


def test_killing_the_last_session_is_no_error(session, tmux):
    assert tmux.kill_session_if_ours(session, OWNER) is True
    assert comes_true(lambda: tmux.server() is None)
    assert tmux.kill_session_if_ours(session, OWNER) is False


# -- windows and panes -----------------------------------------------------------------------------


def test_window_runs_argv_in_its_folder_with_its_environment(session, tmux, fifo, tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    script = 'pwd -P; printf "%s\\n" "$GREETING" "$1"'
    got = run_in_pane(
        tmux, session, fifo, script, "é;", env={"GREETING": "$HOME #{pid} é"}, cwd=str(folder)
    )
    assert got.decode().splitlines() == [str(folder.resolve()), "$HOME #{pid} é", "é;"]


@pytest.mark.parametrize(
    "name",
    ["#", "##", "#S", "#{pid}", "#(id)", "#[x]", "##[x]", "###[x]", "a#", "%H ;", "~", "é'\""],
)
def test_folder_is_read_as_no_format(session, tmux, fifo, tmp_path, name):  # trap 12
    folder = tmp_path / name
    folder.mkdir()
    got = run_in_pane(tmux, session, fifo, "pwd -P", cwd=str(folder))
    assert got.decode() == f"{folder.resolve()}\n"


def test_pane_is_what_the_server_says(session, tmux):
    pane = tmux.new_window(session, "job", ["cat", "-"], {}, "/")
    (info,) = [each for each in tmux.panes() if each.pane == pane.pane]
    assert (info.window, info.pid, info.session) == (pane.window, pane.pid, session)
    assert (info.dead, info.window_name, info.start_command) == (False, "job", "cat -")
    os.kill(pane.pid, 0)


def test_new_window_changes_nobodys_view(session, tmux):
    for _ in range(3):
        tmux.new_window(session, "job", ["cat", "-"], {}, "/")
    lines = outside(tmux, "list-windows", "-t", "=client", "-F", "#{window_active} #{window_name}")
    assert lines == ["1 gangline", "0 job", "0 job", "0 job"]


def test_program_that_ends_at_once_raises_nothing(session, tmux):
    panes = [tmux.new_window(session, "job", ["true", "-"], {}, "/") for _ in range(30)]
    assert len({pane.pane for pane in panes}) == 30
    missing = tmux.new_window(session, "job", ["/no/such/program", "-"], {}, "/")
    assert missing.pid > 0
    assert comes_true(lambda: tmux.other_windows(session) == 0)


def test_window_goes_to_exactly_this_session(session, tmux):  # trap 3
    outside(tmux, "new-session", "-d", "-s", "issue-12", "cat", "-")
    with pytest.raises(TmuxRefusedError):
        tmux.new_window("issue-1", "job", ["cat", "-"], {}, "/")
    with pytest.raises(TmuxRefusedError):
        tmux.other_windows("issue-1")
    assert len(tmux.panes()) == 2


def test_argv_that_a_shell_would_read_is_refused(tmux):
    for argv in ([], ["touch /tmp/x"]):
        with pytest.raises(ValueError, match="argv"):
            tmux.new_window("client", "job", argv, {}, "/")
    for env in ({"": "x"}, {"A=B": "x"}):
        with pytest.raises(ValueError, match="env"):
            tmux.new_window("client", "job", ["cat", "-"], env, "/")
    with pytest.raises(ValueError, match=r"NUL|null"):
        tmux.new_window("client", "job", ["cat", "a\0"], {}, "/")
    assert tmux.server() is None


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Fix #12: 50% %H", "Fix #12: 50% %H"),
        ("#{pane_id} #S #(touch x) ##", "#{pane_id} #S #(touch x) ##"),
        ("#[fg=red]x", "##[fg=red]x"),  # so the status line shows it and reads no style
        ("a\nb\tc\x1b[31m\x07\x9b\u202e\udcff", "a b c [31m    "),
        ("é 日本", "é 日本"),
        ("-d ; kill-server", "-d ; kill-server"),
        ("x" * 61, "x" * 60),
        ("", ""),
    ],
)
def test_window_name_is_never_read_as_anything(session, tmux, title, shown):  # trap 12
    pane = tmux.new_window(session, title, ["cat", "-"], {}, "/")
    (info,) = [each for each in tmux.panes() if each.pane == pane.pane]
    assert info.window_name == shown


@several
@given(title=texts)
def test_status_line_shows_a_title_and_runs_none_of_it(shared, title):
    pane = shared.new_window("shared", title, ["cat", "-"], {}, "/")
    name = shared.command("display-message", "-p", "-t", pane.pane, "#W")
    shared.kill_pane(pane.pane)
    expected = window_name(title)
    # A run of '#' before '[' stays doubled; every other pair is one '#'.
    halved = tmux_module._HASHES_READ_AS_FORMAT.sub(lambda run: run[0][::2], expected)
    assert name == [halved]


def test_panes_are_told_apart_whatever_their_texts_hold(session, tmux):
    odd = 'a\tb|c,"d\n%end 1 2 1\n%exit\n'
    first = tmux.new_window(session, "a|b\tc,d", ["sh", "-c", "cat; true", odd], {}, "/")
    second = tmux.new_window(session, "", ["cat", "-"], {}, "/")
    infos = tmux.panes()
    assert [info.pane for info in infos] == ["%0", first.pane, second.pane]
    assert [info.window_name for info in infos] == ["gangline", "a|b c,d", ""]
    assert "%exit" in infos[1].start_command
    assert infos[2].start_command == "cat -"


def test_non_ascii_survives_a_poor_locale(session, tmux):  # trap 4
    tmux.new_window(session, "é\t日本", ["cat", "-", "ü"], {}, "/")
    info = tmux.panes()[-1]
    assert info.window_name == "é 日本"
    assert "ü" in info.start_command


def test_pane_is_known_by_server_and_whole_mark(session, tmux):  # traps 2 and 3
    server = tmux.server()
    mark = "20261101-7-a1.x9"
    argv = ["env", f"MARK={mark}", "sh", "-c", "cat", f"/x/{mark}-b/spec.json"]
    pane = tmux.new_window(session, "job", argv, {}, "/").pane
    assert tmux.pane_is(pane, server, mark) is True
    for other in (mark[:-1], mark[1:], mark.replace(".", "_"), "20261101-7-a1", "b"):
        assert tmux.pane_is(pane, server, other) is False
    assert tmux.pane_is("%0", server, mark) is False
    assert tmux.pane_is("%99", server, mark) is False
    assert tmux.pane_is(pane, ServerId(server.pid, server.start_time - 1), mark) is False
    for loose in ("", "%", "=client:", "job", f"{pane} "):
        with pytest.raises(ValueError, match="pane id"):
            tmux.pane_is(loose, server, mark)


def test_dead_pane_remains_when_told_to_and_is_killed_by_id(session, tmux, fifo):
    script = 'read -r line <"$1"'
    go = fifo.with_name("go")
    os.mkfifo(go)
    pane = tmux.new_window(session, "job", ["sh", "-c", script, "sh", str(go)], {}, "/")
    tmux.set_remain(pane.pane, True)
    with go.open("w") as door:
        door.write("\n")

    def dead():
        return [each.pane for each in tmux.panes() if each.dead]

    assert comes_true(lambda: dead() == [pane.pane])
    tmux.kill_pane(pane.pane)
    tmux.kill_pane(pane.pane)
    assert dead() == []
    tmux.kill_pane("%0", ServerId(1, 1))
    assert len(tmux.panes()) == 1


def test_remain_can_be_taken_back(session, tmux):
    pane = tmux.new_window(session, "job", ["cat", "-"], {}, "/").pane
    for on, shown in ((True, "on"), (False, "off")):
        tmux.set_remain(pane, on)
        assert outside(tmux, "show-options", "-p", "-v", "-t", pane, "remain-on-exit") == [shown]


@pytest.mark.parametrize("text", ["Enter", "-X cancel", "a;", "$HOME #{pid} ~ \\ 'é\"", "", "C-c"])
def test_line_reaches_a_reader_as_it_is(session, tmux, fifo, text):  # trap 7
    script = 'exec >"$0"; echo ready >"$1"; IFS= read -r line; printf "%s" "$line"'
    ready = fifo.with_name("ready")
    os.mkfifo(ready)
    argv = ["sh", "-c", script, str(fifo), str(ready)]

    def start():
        pane = tmux.new_window(session, "job", argv, {}, "/").pane
        assert ready.read_text() == "ready\n"
        tmux.command("copy-mode", "-t", pane)  # someone scrolls
        tmux.send_line(pane, text)

    assert everything_written_to(fifo, start).decode() == text
    assert outside(tmux, "list-buffers") == []


def test_line_that_cannot_be_typed_is_refused(session, tmux):
    for text in ("a\nb", "\x1b", "\x03"):
        with pytest.raises(ValueError, match="control"):
            tmux.send_line("%0", text)
    with pytest.raises(TmuxRefusedError, match="can't find pane"):
        tmux.send_line("%99", "secret")
    assert outside(tmux, "list-buffers") == []


# -- deaths that the server missed (trap 1) --------------------------------------------------------


def test_nothing_is_healed_where_nothing_is_missed(session, tmux):
    pane = tmux.new_window(session, "job", ["cat", "-"], {}, "/")
    assert tmux.heal() == 0
    os.kill(pane.pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="libutempter is of Linux")
@pytest.mark.parametrize(
    ("version", "healed"), [("3.3a", 1), ("3.5a", 1), ("3.6", 0), ("master", 0)]
)
def test_zombie_of_an_affected_server_is_healed(tmux, monkeypatch, version, healed):
    tmux.ensure_session("client", OWNER)
    server = tmux.server()
    child = subprocess.Popen(["true", "-"])
    try:
        assert comes_true(lambda: b") Z " in Path(f"/proc/{child.pid}/stat").read_bytes())
        zombie = PaneInfo("%9", "@9", "client", child.pid, True, "job", "true", "true -")
        monkeypatch.setattr(tmux, "panes", lambda: [zombie])
        monkeypatch.setattr(tmux, "command", lambda *_: [f"{server.pid} {version}"])
        sent = []
        monkeypatch.setattr(os, "kill", lambda *signalled: sent.append(signalled))
        assert tmux.heal() == healed
        assert sent == [(server.pid, signal.SIGCHLD)] * healed
    finally:
        monkeypatch.undo()
        child.wait()


@pytest.mark.skipif(
    (parse_version(require_tmux()) or (9, 9, "")) < (3, 3, ""), reason="no pane_dead_signal"
)
def test_every_killed_pane_has_a_status_after_healing(tmux):
    session = tmux.ensure_session("client", OWNER)
    tmux.connect(session)
    panes = [tmux.new_window(session, "job", ["cat", "-"], {}, "/") for _ in range(40)]
    for pane in panes:
        tmux.set_remain(pane.pane, True)
    for pane in panes:
        os.kill(pane.pid, signal.SIGKILL)

    def all_have_one():
        tmux.heal()
        form = "#{pane_dead} #{pane_dead_signal}"
        return tmux.command("list-panes", "-s", "-t", "=client", "-F", form).count("1 9") == 40

    assert comes_true(all_have_one)
