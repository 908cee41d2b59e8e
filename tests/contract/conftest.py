"""The stage on which attempts run, and tmux servers of their own, for every contract test."""

import itertools
import os
import signal
import subprocess
from pathlib import Path

import pytest
from attempt_stage import DEADLINE_SECONDS, Stage

from gangline.hosts import processes
from gangline.hosts.tmux import Socket, Tmux

numbers = itertools.count()


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.close()


@pytest.fixture
def private_tmux(monkeypatch):
    """Makes `Tmux` objects, each on a socket of its own; ends their servers by their ids."""
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.delenv("TMUX_PANE", raising=False)
    made = []

    def make(timeout_seconds=DEADLINE_SECONDS):
        socket = Socket("name", f"gangline-host-{os.getpid()}-{next(numbers)}")
        made.append(Tmux(socket, timeout_seconds=timeout_seconds, config="/dev/null"))
        return made[-1]

    yield make
    for tmux in made:
        tmux.close()
        name = tmux.socket.value
        subprocess.run(["tmux", "-L", name, "kill-server"], capture_output=True, check=False)
        (Path("/tmp") / f"tmux-{os.getuid()}" / name).unlink(missing_ok=True)


@pytest.fixture
def stopped():
    """Stops processes; they go on when the test is over."""
    held = []

    def stop(pid):
        started = processes.start_ticks(pid)
        held.append((pid, started))
        assert processes.signal_process(pid, started, signal.SIGSTOP)

    yield stop
    for pid, started in held:
        processes.signal_process(pid, started, signal.SIGCONT)
