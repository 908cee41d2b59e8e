"""`gangline agents`: what is installed, what it says of itself, and what can be done with it."""

import json

from project import Project, assert_harmless

OWN = """\
[batch]
agent = "mine"
[agents.mine]
start = ["mine", "--go"]
resume = ["mine", "--continue", "{session}"]
interactive = ["mine", "{prompt}"]
mode = "interactive"
account = "claude"
[agents.here]
start = ["./here"]
[agents.claude]
pass = ["WANTED"]
"""


def agents(project: Project, **options: object) -> dict[str, dict]:
    found = json.loads(project.run("agents", "--json", check=0, **options).stdout)
    return {agent["name"]: agent for agent in found}


def test_presets_say_what_can_be_done_with_them_though_none_is_installed(project):
    env = project.only_programs("git", "tmux")
    found = agents(project, env=env)
    assert list(found)[:2] == ["claude", "codex"]
    assert not any(agent["found"] or agent["own"] for agent in found.values())
    assert all(agent["tested"] in agent["install"] for agent in found.values())
    assert (found["claude"]["session"], found["codex"]["session"]) == ("ours", "seen")
    assert found["claude"]["resume"] is found["claude"]["interactiveResume"] is True
    assert (found["aider"]["resume"], found["aider"]["session"]) == (False, "none")
    assert found["gemini"]["docOnly"] is True
    told = {name: (a["usage"], a["cost"], a["limits"]) for name, a in found.items()}
    assert told["claude"] == (True, True, True)
    assert told["codex"] == (True, False, True)
    assert told["qwen"] == (True, False, False)
    text = project.run("agents", env=env, check=0).stdout
    assert f"  claude: {found['claude']['install']}\n" in text
    assert all(line.count("not found") == 1 for line in text.splitlines()[1 : len(found) + 1])


def test_own_agents_stand_beside_the_presets(project):
    project.program("mine", "echo mine 7.1")
    project.settings(OWN)
    found = agents(project)
    mine, here = found["mine"], found["here"]
    assert (mine["own"], mine["version"], mine["install"]) == (True, "7.1", None)
    assert (mine["mode"], mine["interactive"], mine["resume"]) == ("interactive", True, True)
    assert (mine["account"], mine["isDefault"]) == ("claude", True)
    assert mine["path"] == str(project.programs / "mine")
    assert (here["found"], here["path"], here["version"]) == (True, None, None)
    assert found["claude"]["own"] is False  # its command is still the preset's
    rows = {line.split()[0]: line for line in project.run("agents").stdout.splitlines() if line}
    assert "7.1" in rows["mine*"]
    assert "[batch] agent; runs interactive; your own: mine; account claude" in rows["mine*"]
    assert "in the worktree" in rows["here"]


def test_version_is_asked_in_the_environment_an_agent_gets_and_made_harmless(project):
    leaked = '[ "$CLAUDECODE$GANGLINE_ISSUE$TMUX" ] && echo 6.6.6 && exit'
    script = leaked + '\nprintf "\\033]0;x\\0071.2.$WANTED\\n"'
    project.program("claude", script)
    project.settings(OWN)
    leaks = {"CLAUDECODE": "1", "GANGLINE_ISSUE": "9", "TMUX": "/x,1,0", "WANTED": "3"}
    assert agents(project, env=leaks)["claude"]["version"] == "1.2.3"
    text = project.run("agents", env=leaks, check=0).stdout
    assert_harmless(text)
    assert "2.1.330 was tested" in text


def test_program_that_does_not_say_its_version_is_found_all_the_same(project):
    project.program("codex", "echo no number")
    found = agents(project)["codex"]
    assert found["found"] is True
    assert found["version"] == "found, but it does not tell its version"


def test_narrow_terminal_still_tells_which_agents_are_there(project):
    code, shown = project.run_in_terminal("agents", columns=40, env=project.only_programs("git"))
    assert code == 0
    table = shown.split("\n\n")[0].splitlines()
    assert max(map(len, table)) <= 40
    assert any(line.startswith("claude") and "not found" in line for line in table)
