"""The pane of a real agent while it works: a running account that a person can read, no JSON."""

import pytest
from agent_project import AgentProject
from test_real_dialogs import screen
from test_real_recovery import begin, end, tools, wait

# OpenCode tells a tool when it has ended.
SAID = {
    "claude": ("› This takes a while.", "⏺ Bash: echo $$"),
    "codex": ("› This takes a while.", "⏺ Bash: echo $$"),
    "qwen": ("› This takes a while.", "⏺ run_shell_command: echo $$"),
    "opencode": ("› This takes a while.",),
}


@pytest.mark.parametrize("agent", SAID)
def test_pane_shows_what_it_says_and_does_while_it_does_it(project: AgentProject, agent: str):
    project.use(agent)
    project.settings("[batch]\nkeep_completed_panes = true\n")
    project.commit()
    orchestrator = begin(project, "slow file=one.txt text=One.", agent=agent)
    wait(project, lambda: tools(project, "one"), "its tool runs")
    for words in SAID[agent]:
        wait(project, lambda words=words: words in screen(project), f"the pane shows {words}")
    assert '{"' not in screen(project)
    project.stub.release("one")
    end(project, orchestrator)
    (pane,) = [line.split()[0] for line in panes(project) if "#1" in line]
    account = project.tmux("capture-pane", "-p", "-J", "-S", "-", "-t", pane).stdout
    for words in (
        *SAID[agent],
        "✎ one.txt",
        "git commit",
        "› Done: one.txt is committed.",
        "■ done",
    ):
        assert words in account, account
    assert '{"' not in account


def panes(project: AgentProject) -> list[str]:
    return project.tmux("list-panes", "-a", "-F", "#{pane_id} #{window_name}").stdout.splitlines()
