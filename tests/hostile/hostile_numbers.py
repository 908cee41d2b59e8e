"""Scenarios that are played where process numbers are a namespace's own: see `run_inside`.

The kernel gives the next process the number after `/proc/sys/kernel/ns_last_pid`, which counts for
this namespace alone; so a number that has become free is given to whom the scenario wants, and a
whole batch can be made to live on a few dozen of them. (A small `pid_max` would do it too, but on
older kernels that one is the whole machine's.)
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent
sys.path += [str(_TESTS / name) for name in ("acceptance", "crash", "prove")]

from hostile_stage import HostileCrew, signal_and_wait  # noqa: E402 - found by the line above

_LAST = Path("/proc/sys/kernel/ns_last_pid")
_LOWEST = 300  # the kernel gives none below it after it has wrapped around
_CANNOT_BE = 77


def take_number(crew: HostileCrew, number: int) -> "subprocess.Popen[bytes]":
    """A bystander with exactly this process number, which must be free.

    A tmux before 3.6 may have missed the end of its pane, and who would tell it is stopped.
    """

    def is_free() -> bool:
        crew.tell_server_of_ends()
        return not Path(f"/proc/{number}").exists()

    crew.wait_for(is_free, f"number {number} is free")

    def taken() -> "subprocess.Popen[bytes] | None":
        _LAST.write_text(str(number - 1))
        one = subprocess.Popen(["sleep", "1000"], env={"PATH": os.environ["PATH"]})
        if one.pid == number:
            return one
        one.kill()  # somebody's child was quicker
        one.wait()
        return None

    return crew.wait_for(taken, f"number {number} is taken")


def numbers_of_the_dead(crew: HostileCrew) -> None:
    """Runner, agent, tmux server and orchestrator are dead; others live under their numbers."""
    crew.plan_issues(1, 2)
    orchestrator = crew.orchestrate()
    crew.wait_for_starts(2)
    crew.pane(1)
    crew.pane(2)
    server = int(crew.tmux("display-message", "-p", "#{pid}").stdout)
    dead = [crew.runner_pid(1), crew.agent_pid(1)]
    crew.kill_orchestrator(orchestrator)
    signal_and_wait(crew, dead, signal.SIGKILL)
    signal_and_wait(crew, [server], signal.SIGKILL)  # hangs up #2, whose runner ends it
    crew.wait_for_ends(1)
    bystanders = [take_number(crew, number) for number in (*dead, server, orchestrator.pid)]
    resumed = crew.resume()
    crew.wait_for_starts(4)
    crew.run("cancel", "work", "2", check=0)
    crew.wait_for(lambda: crew.recorded_statuses()["2"] == "cancelled", "#2 is cancelled")
    crew.let(1)
    assert crew.wait_for_end(resumed) == 1, resumed.text()
    crew.judge()
    assert crew.executions() == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert [one.poll() for one in bystanders] == [None] * len(bystanders)
    for one in bystanders:
        one.kill()
        one.wait()


def number_of_a_runner_that_is_being_ended(crew: HostileCrew) -> None:
    """Between the look at a runner and its signal it ends, and a bystander gets its number."""
    crew.plan_issues(1)
    orchestrator = crew.orchestrate(stop=["gangline.hosts.processes:signal_process", 1])
    crew.wait_for_starts(1)
    number = crew.runner_pid(1)
    crew.run("cancel", "work", "1", check=0)
    crew.stopped(orchestrator)
    signal_and_wait(crew, [number], signal.SIGKILL)  # its agent is hung up with the pane, or reaped
    bystander = take_number(crew, number)
    orchestrator.send_signal(signal.SIGCONT)
    assert crew.wait_for_end(orchestrator) == 1, orchestrator.text()
    assert crew.recorded_statuses() == {"1": "cancelled"}
    crew.judge()
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def few_numbers(crew: HostileCrew) -> None:
    """A batch whose numbers begin again all the time, with an orchestrator killed now and then."""
    issues = [crew.issue(n, after=[n - 3] if n > 3 else [], seconds="0.2") for n in range(1, 16)]
    crew.plan(issues)
    ended = threading.Event()

    def begin_again() -> None:
        while not ended.wait(0.003):
            _LAST.write_text(str(_LOWEST))

    thread = threading.Thread(target=begin_again)
    thread.start()
    try:
        for hours, count in enumerate((3, 7, 11)):
            # Ahead of the one before: what that one's end cut off is not waited for.
            orchestrator = crew.orchestrate(boot_ahead=3600 * hours)
            crew.wait_for_starts(count)
            crew.kill_orchestrator(orchestrator)
        assert crew.wait_for_end(crew.orchestrate(boot_ahead=3600 * 3)) == 0
    finally:
        ended.set()
        thread.join()
    crew.judge()
    # A launch that the kill cut off is done by a second attempt, which is not charged.
    executed = sorted((int(line.issue), line.retry) for line in crew.starts())
    assert executed == [(number, 0) for number in range(1, 16)], crew.starts()
    claims = (crew.area() / "attempts").glob("*/claim")
    numbers = [claim.read_text() for claim in claims] + [str(line.pid) for line in crew.starts()]
    pids = [text.partition('"pid":')[2].partition(",")[0] or text for text in numbers]
    assert len(set(pids)) < len(pids), "no number was ever given twice: nothing was tested"


SCENARIOS = {
    "numbers_of_the_dead": numbers_of_the_dead,
    "number_of_a_runner_that_is_being_ended": number_of_a_runner_that_is_being_ended,
    "few_numbers": few_numbers,
}


def main(scenario: str, room: str) -> int:
    try:
        _LAST.write_text(_LAST.read_text())
    except OSError as error:
        print(f"process numbers cannot be chosen here: {error}")
        return _CANNOT_BE
    crew = HostileCrew(Path(room))
    try:
        SCENARIOS[scenario](crew)
    finally:
        crew.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
