"""A tmux that hangs, answers rubbish, begins its ids again, or has a user's odd settings.

Proven elsewhere: each trap of EVIDENCE.md section 1 on the host alone, a server that hangs, dies or
is too old (tests/contract/test_tmux.py, test_local_host.py, tests/acceptance/test_bad_machine.py);
the server killed with agents at work (tests/crash/test_attempt_killed.py).
"""

import os
import shutil
import signal

import pytest
from hostile_stage import HostileCrew, LateLaunch, signal_and_wait

# Trap 6 of EVIDENCE.md, and what else a user may have set: none of it may reach an agent's pane.
HOSTILE_SETTINGS = """\
set -g default-command "echo hijacked; exit 3"
set -g default-shell {shell}
set -g destroy-unattached on
set -g detach-on-destroy off
set -s exit-unattached on
set -g base-index 7
set -g pane-base-index 3
set -g renumber-windows on
set -g remain-on-exit on
set -g allow-rename on
set -g automatic-rename on
set -g set-titles on
set -g mouse on
set -g status-left "#(touch {room}/ran-a-format)"
set-hook -g after-new-window "display-message -p hook"
set-hook -g pane-exited "display-message -p hook"
set-environment -g LC_ALL C
bind-key C-c kill-server
"""
# What a tmux in front of the true one does with these words of a command line.
_FAKE = """\
mode=$(cat {mode})
for word; do
  case "$mode $word" in
    "hang -C"|"hang all") exec sleep 100000 ;;
    "rubbish -C") head -c 3000 /dev/urandom; printf '%%begin 1 1 1\\nno\\n%%end 2 2 1\\n'; exit 0 ;;
    "flood -C") exec yes "%output %0 rubbish" ;;
    "one long line -C") exec cat /dev/zero ;;
    "an answer without end -C") echo "%begin 1 1 0"; exec yes ;;
    "refuse -C") echo "no such thing" >&2; exit 1 ;;
    "rubbish list-windows") head -c 300 /dev/urandom; exit 0 ;;
    "silent list-windows") exit 0 ;;
    "angry list-windows") kill -9 $$ ;;
  esac
done
exec {tmux} "$@"
"""
MODES = [
    "hang",
    "rubbish",
    "flood",
    "one long line",
    "an answer without end",
    "refuse",
    "silent",
    "angry",
]


def test_panes_of_a_later_server_under_the_same_ids_are_left_alone(crew: HostileCrew) -> None:
    crew.plan_issues(1, 2)
    orchestrator = crew.orchestrate()
    crew.wait_for_starts(2)
    panes = {crew.pane(1), crew.pane(2)}
    crew.kill_orchestrator(orchestrator)
    crew.tmux("kill-server")
    crew.wait_for_ends(2)
    for number in range(4):
        crew.tmux("-f", os.devnull, "new-session", "-d", "-s", f"mine-{number}", "cat", "-")
    ours = "#{pane_id} #{pane_pid}"
    before = crew.tmux("list-panes", "-a", "-F", ours).stdout.splitlines()
    assert panes <= {line.split()[0] for line in before}
    resumed = crew.resume()
    crew.wait_for_starts(4)
    crew.pane(2)
    crew.run("cancel", "work", "2", check=0)
    crew.let(1)
    assert crew.wait_for_end(resumed) == 1, resumed.text()
    crew.run("run", "work", check=1)  # archives, and closes what panes it has kept
    assert crew.tmux("list-panes", "-a", "-F", ours).stdout.splitlines() == before


def once(crew: HostileCrew) -> bool:
    """Whether #2 was executed once, by the launch in doubt or by a later one."""
    return [issue for issue, _ in crew.executions()] == [1, 2]


def test_launch_that_hangs_with_tmux_is_done_late_or_not_but_once(late_launch: LateLaunch) -> None:
    crew = late_launch.crew
    crew.kill_orchestrator(late_launch.orchestrator)
    late_launch.wake_server()
    orchestrator = crew.orchestrate(boot_ahead=3600)
    crew.wait_for_starts(2)
    crew.let(1, 2)
    assert crew.wait_for_end(orchestrator) == 0, orchestrator.text()
    assert once(crew)
    crew.judge()


def test_what_agents_did_is_recorded_while_tmux_hangs(late_launch: LateLaunch) -> None:
    crew = late_launch.crew
    crew.let(1)
    crew.wait_for(lambda: crew.recorded_statuses()["1"] == "completed", "#1 is completed")
    crew.run("stop", "work", check=0)
    assert crew.wait_for_end(late_launch.orchestrator) == 130
    late_launch.wake_server()
    orchestrator = crew.orchestrate(boot_ahead=3600)
    crew.wait_for_starts(2)
    crew.let(2)
    assert crew.wait_for_end(orchestrator) == 0
    assert once(crew)
    crew.judge()


@pytest.mark.parametrize("mode", MODES)
def test_tmux_that_answers_rubbish_loses_and_doubles_nothing(crew: HostileCrew, mode: str) -> None:
    tmux = shutil.which("tmux")
    which = crew.room / "mode"
    which.write_text("well")
    crew.program("tmux", _FAKE.format(mode=which, tmux=tmux))
    crew.plan([crew.issue(1), crew.issue(2, after=[1])])
    orchestrator = crew.orchestrate(tmux_seconds=0.5)
    crew.wait_for_starts(1)
    crew.pane(1)
    crew.kill_orchestrator(orchestrator)
    which.write_text(mode)
    resumed = crew.orchestrate(tmux_seconds=0.5)
    crew.let(1)
    in_doubt = "tmux did not confirm the start of #2"
    crew.wait_for(lambda: in_doubt in resumed.text() or crew.starts(2), "#2 is launched, or not")
    crew.run("status", "work", check=0)
    assert crew.recorded_statuses() == {"1": "completed", "2": "dispatched"}
    which.write_text("well")
    crew.kill_orchestrator(resumed)
    resumed = crew.orchestrate(boot_ahead=3600)
    crew.wait_for(lambda: crew.starts(2), "#2 runs")
    crew.let(2)
    assert crew.wait_for_end(resumed) == 0, resumed.text()
    assert len(crew.starts()) == 2
    crew.judge()


@pytest.mark.parametrize("shell", ["fish", "zsh", "false"])
def test_settings_of_a_user_reach_no_pane_of_an_agent(crew: HostileCrew, shell: str) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    settings = crew.home / ".tmux.conf"
    settings.write_text(HOSTILE_SETTINGS.format(shell=path, room=crew.room))
    crew.plan([crew.issue(1), crew.issue(2, after=[1])])
    orchestrator = crew.orchestrate()
    crew.wait_for_starts(1)
    assert crew.tmux("show-options", "-gv", "base-index").stdout == "7\n"  # they were read
    crew.pane(1)
    crew.kill_orchestrator(orchestrator)
    resumed = crew.resume()
    crew.let(1)
    crew.wait_for_starts(2)
    crew.pane(2)
    os.kill(crew.agent_pid(2), signal.SIGKILL)
    crew.wait_for_starts(3)
    crew.let(2, code=4)
    assert crew.wait_for_end(resumed) == 1, resumed.text()
    assert crew.executions() == [(1, 0), (2, 0), (2, 1)]
    crew.judge()


# -- agents that nothing polite ends ---------------------------------------------------------------


@pytest.mark.parametrize("also", ["server", "server and runner", "runner"])
def test_agent_that_ignores_every_polite_signal_is_gone_before_the_next_begins(
    crew: HostileCrew, also: str
) -> None:
    crew.make_stubborn()
    crew.plan_issues(1)
    orchestrator = crew.orchestrate()
    crew.wait_for_starts(1)
    crew.pane(1)
    stubborn = [pid for pid, words in crew.processes().items() if 'trap "" HUP' in words]
    assert stubborn
    crew.wait_for(lambda: _ignores(stubborn[0]), "its daemon ignores them")
    if "runner" in also:
        signal_and_wait(crew, [crew.runner_pid(1)], signal.SIGKILL)
    if "server" in also:
        crew.tmux("kill-server")
    crew.wait_for_starts(2)
    assert [line.before for line in crew.starts()] == [0, 0]
    assert not any(crew.lives(pid) for pid in stubborn)
    crew.run("stop", "work", "--kill", check=0)
    assert crew.wait_for_end(orchestrator) == 130
    assert not [words for words in crew.processes().values() if "trap" in words or ".sh" in words]
    crew.judge(over=False)


def _ignores(pid: int) -> bool:
    """Whether the process ignores HUP."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        mask = next(line.split()[1] for line in file if line.startswith("SigIgn"))
    return bool(int(mask, 16) & 1)
