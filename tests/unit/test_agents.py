"""Agents: presets, overriding, argv and environment.

What matters most here is what must not happen: text of an issue read as an option or a shell line,
and a variable of the orchestrator reaching an agent.
"""

import os
import re
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gangline.agents import registry
from gangline.agents.checking import check_agent
from gangline.agents.environment import build_environment, with_gangline
from gangline.agents.placeholders import (
    check_placeholders,
    clean_text,
    did_you_mean,
    expand,
    placeholders_of,
)
from gangline.agents.registry import (
    ARGV_BYTES_MAX,
    COMMAND_AGENT,
    Agent,
    AgentConfig,
    Placeholders,
    can_resume,
    command_agent,
    find_agent,
    presets,
    render,
    require_program,
)
from gangline.errors import ConfigError, InputError, MachineError

SESSION = "0b6f8c1e-7b0a-4f39-9a54-3a1f5f3f1b11"
PLACE = "gangline.toml: agents.mine"
VALUES = Placeholders(
    prompt="Do it\nwell",
    prompt_file="/repo/prompt.md",
    issue="7",
    title="A title",
    attempt="b1-7-a0",
    session=SESSION,
    worktree="/repo/tree",
    branch="gangline/client/issue-7",
)

BASE = {
    "HOME": "/h",
    "PATH": "/bin",
    "LC_ALL": "C.UTF-8",
    "XDG_CACHE_HOME": "/c",
    "https_proxy": "p",
    "GIT_AUTHOR_NAME": "Ann",
    "SSL_CERT_FILE": "/cert",
    "TMUX": "/tmp/x,1,0",
    "TMUX_PANE": "%1",
    "CLAUDECODE": "1",
    "CLAUDE_CODE_CHILD_SESSION": "1",
    "CLAUDE_CONFIG_DIR": "/claude",
    "ANTHROPIC_API_KEY": "key",
    "OPENAI_API_KEY": "key",
    "IS_SANDBOX": "yes",
    "GIT_DIR": "/g",
    "GIT_WORK_TREE": "/w",
    "GIT_INDEX_FILE": "/i",
    "GANGLINE_AREA": "outer",
    "GANGLINE_MARK": "outer",
    "AWS_REGION": "r",
    "PWD": "/orchestrator",
}


def with_values(**changes: str) -> Placeholders:
    return msgspec.structs.replace(VALUES, **changes)


def agent(*start: str, **keys) -> Agent:
    keys.setdefault("prompt", "argv")
    return Agent(name="mine", start=start, **keys)


class TestPlaceholders:
    def test_what_a_value_holds_is_not_replaced_again(self):
        assert expand("{title} {issue}", {"title": "{issue} {prompt}", "issue": "{title}"}) == (
            "{issue} {prompt} {title}"
        )

    @pytest.mark.parametrize(
        "text", ['{"a": 1}', "{}", "{ issue }", "{0}", "${issue}", "$${issue}", "{issue", "{a-b}"]
    )
    def test_other_braces_stay_as_they_are(self, text):
        assert expand(text, {"issue": "7", "a": "x"}) == text
        assert placeholders_of(text) == []
        check_placeholders(text, ["prompt"], PLACE)

    @given(st.text())
    def test_a_value_arrives_unchanged(self, value):
        assert expand("<{title}>", {"title": value}) == f"<{value}>"

    def test_an_unknown_placeholder_is_refused_with_the_meant_one(self):
        with pytest.raises(ConfigError) as caught:
            check_placeholders("do {promt}", ["prompt", "issue"], PLACE)
        assert caught.value.message == "{promt} is not a placeholder"
        assert caught.value.place == PLACE
        assert caught.value.hint == "did you mean {prompt}?"
        assert caught.value.causes == ("placeholders here: {prompt} {issue}",)

    def test_a_word_like_no_placeholder_says_how_to_write_it_literally(self):
        with pytest.raises(ConfigError) as caught:
            check_placeholders("{zzz}", ["prompt"], PLACE)
        assert "{ zzz }" in caught.value.hint

    @given(st.text(alphabet=st.characters()))
    def test_clean_text_fits_an_argument_and_a_file(self, text):
        cleaned = clean_text(text + "\0\ud800")
        assert "\0" not in cleaned
        cleaned.encode("utf-8")

    def test_clean_text_keeps_what_needs_no_cleaning(self):
        assert clean_text("é\n\t🐕") == "é\n\t🐕"

    def test_did_you_mean_is_silent_when_nothing_is_like_it(self):
        assert did_you_mean("codx", ["codex", "claude"]) == "codex"
        assert did_you_mean("qqqq", ["codex", "claude"]) is None


class TestPresets:
    def test_claude_is_headless_with_a_session_chosen_by_us(self):
        claude = find_agent("claude", {}, "--agent")
        argv, stdin = render(claude, VALUES, resume=False)
        assert argv[:2] == ["claude", "-p"]
        assert "--dangerously-skip-permissions" in argv
        assert argv[argv.index("--session-id") + 1] == SESSION
        assert argv[argv.index("--output-format") + 1] == "stream-json"
        assert stdin == "prompt"

    def test_claude_resumes_its_session_and_does_not_claim_the_id_again(self):
        argv, stdin = render(find_agent("claude", {}, "--agent"), VALUES, resume=True)
        assert argv[argv.index("--resume") + 1] == SESSION
        assert "--session-id" not in argv
        assert stdin == "prompt"

    def test_codex_reads_the_prompt_from_stdin_and_resumes_its_thread(self):
        bypass = "--dangerously-bypass-approvals-and-sandbox"
        start = ["codex", "exec", "--json", bypass, "-c", "allow_login_shell=false"]
        codex = find_agent("codex", {}, "--agent")
        assert render(codex, VALUES, resume=False) == (
            [*start, "-"],
            "prompt",
        )
        argv, _ = render(codex, VALUES, resume=True)
        assert argv[-3:] == ["resume", SESSION, "-"]

    def test_codex_without_a_reported_thread_starts_afresh(self):
        codex = find_agent("codex", {}, "--agent")
        unknown = with_values(session="")
        assert not can_resume(codex, "")
        assert render(codex, unknown, resume=True) == render(codex, unknown, resume=False)

    @pytest.mark.parametrize("name", sorted(presets()))
    def test_every_preset_passes_the_check_of_a_users_table(self, name):
        preset = presets()[name]
        own = AgentConfig(
            start=preset.start,
            resume=preset.resume,
            prompt=preset.prompt,
            env=preset.env,
            pass_env=preset.pass_env,
        )
        check_agent(f"my-{name}", own, PLACE)
        assert re.search(r"(@|==)\d+\.\d+\.\d+\Z", preset.install), "an exact version is pinned"


class TestFinding:
    def test_a_configured_key_overrides_the_preset_and_the_others_stay(self):
        own = AgentConfig(start=("claude", "-p", "--model", "x"), env={"A": "1"}, pass_env=("B",))
        found = find_agent("claude", {"claude": own}, "--agent")
        preset = presets()["claude"]
        assert found.start == ("claude", "-p", "--model", "x")
        assert found.resume == preset.resume
        assert found.prompt == "stdin"
        assert found.env == {"A": "1"}
        assert set(found.pass_env) == {*preset.pass_env, "B"}
        assert found.as_root_env == {"IS_SANDBOX": "1"}

    def test_a_configured_variable_wins_over_the_presets(self, monkeypatch):
        preset = registry.Preset(start=("x",), env={"A": "preset", "B": "preset"}, install="")
        monkeypatch.setattr(registry, "presets", lambda: {"x": preset})
        found = find_agent("x", {"x": AgentConfig(env={"A": "own"})}, "--agent")
        assert found.env == {"A": "own", "B": "preset"}

    def test_overriding_leaves_the_preset_itself_alone(self):
        find_agent("claude", {"claude": AgentConfig(env={"A": "1"}, prompt="argv")}, "--agent")
        assert find_agent("claude", {}, "--agent").env == {}
        assert find_agent("claude", {}, "--agent").prompt == "stdin"

    @pytest.mark.parametrize(
        ("start", "way"),
        [
            (("x", "--message={prompt}"), "argv"),
            (("x", "{prompt_file}"), "file"),
            (("x", "{issue}"), "stdin"),
        ],
    )
    def test_without_a_prompt_key_the_command_itself_says_how(self, start, way):
        found = find_agent("mine", {"mine": AgentConfig(start=start)}, "--agent")
        assert found.prompt == way
        assert found.resume is None
        assert found.as_root_env == {}

    def test_an_unknown_agent_is_refused_with_the_known_ones(self):
        with pytest.raises(InputError) as caught:
            find_agent("cluade", {"mine": AgentConfig(start=("x",))}, "issues/3.md")
        assert caught.value.message == "there is no agent 'cluade'"
        assert caught.value.place == "issues/3.md"
        known = ", ".join(sorted({*presets(), "mine"}))
        assert caught.value.causes == (f"known agents: {known}",)
        assert caught.value.hint == "did you mean claude?"

    def test_an_unknown_agent_like_no_other_is_told_how_to_define_one(self):
        with pytest.raises(ConfigError) as caught:
            find_agent("zzz", {}, "gangline.toml: batch.agent", error=ConfigError)
        assert "[agents.NAME]" in caught.value.hint


class TestChecking:
    def refused(self, config: AgentConfig, name: str = "mine") -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            check_agent(name, config, f"gangline.toml: agents.{name}")
        return caught.value

    def test_a_table_that_can_work_passes(self):
        check_agent(
            "mine",
            AgentConfig(
                start=("sh", "-c", 'tool "$1" <"${FILE}"', "sh", "{title}"),
                resume=("tool", "{session}", '{"json": {}}'),
                env={"_A1": "any ; text"},
                pass_env=("LC_*", "KEY"),
            ),
            PLACE,
        )
        check_agent("claude", AgentConfig(prompt="argv"), PLACE)

    @pytest.mark.parametrize("name", ["", "-x", "a b", "../x", "x" * 101, "é", COMMAND_AGENT])
    def test_a_name_that_is_no_name_is_refused(self, name):
        assert "cannot be the name" in self.refused(AgentConfig(start=("x",)), name).message

    def test_an_agent_without_a_command_is_refused(self):
        error = self.refused(AgentConfig(prompt="argv"), "cloude")
        assert error.message == "agent 'cloude' has no command"
        assert error.hint.startswith("did you mean claude?")
        assert self.refused(AgentConfig(prompt="argv"), "zzz").hint.startswith("add start")

    @pytest.mark.parametrize("key", ["start", "resume"])
    @pytest.mark.parametrize(
        ("argv", "place", "message"),
        [
            ((), "", "empty"),
            (("", "x"), "", "empty"),
            (("~/bin/x",), "[0]", "only a shell expands"),
            (("x", "a\0b"), "[1]", "NUL"),
            (("x", "{promt}"), "[1]", "{promt} is not a placeholder"),
            (("sh", "-c", "tool {title}"), "[2]", "shell line"),
            (("env", "/bin/bash", "-euc", "tool '{prompt}'"), "[3]", "shell line"),
        ],
    )
    def test_a_command_that_cannot_work_or_is_dangerous_is_refused(self, key, argv, place, message):
        config = AgentConfig(**{"start": ("x",), key: argv})
        error = self.refused(config)
        assert error.place == f"gangline.toml: agents.mine.{key}{place}"
        assert message in error.message

    def test_a_title_as_argument_of_a_script_is_no_shell_line(self):
        argv = ("bash", "-c", 'tool "$1"', "bash", "-c", "{title}")
        check_agent("mine", AgentConfig(start=argv), PLACE)
        check_agent("mine", AgentConfig(start=("gcc", "-c", "{title}")), PLACE)

    @pytest.mark.parametrize(
        ("variable", "value"), [("A B", "x"), ("1A", "x"), ("A", "x\0"), ("GANGLINE_AREA", "x")]
    )
    def test_a_variable_that_cannot_be_set_is_refused(self, variable, value):
        error = self.refused(AgentConfig(start=("x",), env={variable: value}))
        assert error.place == "gangline.toml: agents.mine.env"

    @pytest.mark.parametrize(
        "pattern", ["*", "", "A*B", "A=B", "TMUX", "TMUX_PANE", "GIT_DIR", "GANGLINE_*"]
    )
    def test_a_variable_that_cannot_be_passed_is_refused(self, pattern):
        error = self.refused(AgentConfig(start=("x",), pass_env=(pattern,)))
        assert error.place == "gangline.toml: agents.mine.pass"


class TestRendering:
    def test_every_placeholder_is_replaced(self):
        names = Placeholders.__struct_fields__
        argv, stdin = render(agent(*(f"<{{{name}}}>" for name in names)), VALUES, resume=False)
        assert argv == [f"<{getattr(VALUES, name)}>" for name in names]
        assert stdin == "none"

    def test_a_title_that_holds_a_placeholder_stays_as_it_is(self):
        values = with_values(title="{prompt} {session}")
        argv, _ = render(agent("x", "{title}", prompt="stdin"), values, resume=False)
        assert argv == ["x", "{prompt} {session}"]

    def test_the_prompt_is_appended_when_no_element_holds_it(self):
        assert render(agent("x", "-p"), VALUES, resume=False)[0] == ["x", "-p", "Do it\nwell"]
        assert render(agent("x", "-m{prompt}"), VALUES, resume=False)[0] == ["x", "-mDo it\nwell"]

    def test_the_prompt_is_appended_to_the_resuming_command_as_well(self):
        mine = agent("x", "{prompt}", resume=("x", "-r", "{session}"))
        assert render(mine, VALUES, resume=True)[0] == ["x", "-r", SESSION, "Do it\nwell"]

    def test_a_prompt_given_as_file_or_stdin_is_not_appended(self):
        by_file = agent("x", "{prompt_file}", prompt="file")
        assert render(by_file, VALUES, resume=False) == (["x", "/repo/prompt.md"], "none")
        assert render(agent("x", prompt="stdin"), VALUES, resume=False) == (["x"], "prompt")

    @pytest.mark.parametrize("text", ["-h", "--help", "-", "\0-x"])
    def test_text_of_an_issue_is_never_an_option(self, text):
        values = with_values(prompt=text, title=text)
        argv, _ = render(agent("x", "{title}", "{prompt}"), values, resume=False)
        assert all(element.startswith(" -") for element in argv[1:])
        assert render(agent("x"), values, resume=False)[0][1].startswith(" -")

    def test_an_option_written_by_the_user_stays_an_option(self):
        values = with_values(title="-t")
        assert render(agent("x", "-t={title}", "-", prompt="stdin"), values, resume=False)[0] == [
            "x",
            "-t=-t",
            "-",
        ]

    def test_nul_and_lone_surrogates_are_removed(self):
        values = with_values(prompt="a\0b\ud800", title="\0")
        argv, _ = render(agent("x", "{prompt}", "{title}"), values, resume=False)
        assert argv == ["x", "ab?", ""]

    def test_a_worktree_whose_name_is_not_utf8_stays_exact(self):
        path = os.fsdecode(b"/repo/\xff")
        argv, _ = render(agent("x", "{worktree}"), with_values(worktree=path), resume=False)
        assert os.fsencode(argv[1]) == b"/repo/\xff"

    def test_an_argv_at_the_limit_is_rendered_and_one_byte_more_is_refused(self):
        fits = "é" * ((ARGV_BYTES_MAX - 4) // 2) + "x"
        argv, _ = render(agent("x", "{prompt}"), with_values(prompt=fits), resume=False)
        assert sum(len(os.fsencode(element)) + 1 for element in argv) == ARGV_BYTES_MAX
        with pytest.raises(InputError) as caught:
            render(agent("x", "{prompt}"), with_values(prompt=fits + "x"), resume=False)
        assert caught.value.place == "issue 7"
        assert 'prompt = "stdin"' in caught.value.hint

    def test_without_a_way_to_resume_the_agent_starts_afresh(self):
        assert render(agent("x", "{prompt}"), VALUES, resume=True)[0] == ["x", "Do it\nwell"]

    @pytest.mark.parametrize("session", ["", "--last", "a b", "a\n", "x" * 201])
    def test_a_session_that_is_no_id_is_not_resumed(self, session):
        mine = agent("x", resume=("x", "--resume", "{session}"), prompt="stdin")
        assert can_resume(mine, SESSION)
        assert not can_resume(mine, session)
        assert render(mine, with_values(session=session), resume=True)[0] == ["x"]

    def test_an_agent_that_resumes_by_folder_needs_no_session(self):
        mine = agent("x", resume=("x", "--continue"), prompt="stdin")
        assert can_resume(mine, "")
        assert render(mine, with_values(session=""), resume=True)[0] == ["x", "--continue"]

    def test_an_issues_own_command_is_taken_literally_without_prompt(self):
        command = command_agent(("make", "{title}", "${X}", "-n"))
        for resume in (False, True):
            rendered = render(command, VALUES, resume=resume)
            assert rendered == (["make", "{title}", "${X}", "-n"], "none")

    @given(prompt=st.text(), title=st.text())
    def test_each_text_is_one_argument_whatever_it_holds(self, prompt, title):
        values = with_values(prompt=prompt, title=title)
        argv, _ = render(agent("x", "{title}", "{prompt}"), values, resume=False)
        assert len(argv) == 3
        assert [element.removeprefix(" ") for element in argv[1:]] == [
            text.replace("\0", "").removeprefix(" ") for text in (title, prompt)
        ]


class TestProgram:
    def program(self, folder, name="tool", mode=0o755) -> str:
        path = folder / name
        path.write_text("#!/bin/sh\n")
        path.chmod(mode)
        return str(path)

    def test_a_program_on_path_is_found_absolute(self, tmp_path):
        path = self.program(tmp_path)
        assert require_program(agent("tool"), str(tmp_path)) == path
        assert require_program(agent(path), "") == path

    def test_a_relative_entry_of_path_still_gives_an_absolute_program(self, tmp_path, monkeypatch):
        path = self.program(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert require_program(agent("tool"), ".") == path

    def test_a_program_relative_to_the_worktree_is_left_as_it_is(self):
        assert require_program(agent("./tools/agent"), "") == "./tools/agent"
        assert require_program(agent("{worktree}/agent"), "") == "{worktree}/agent"

    def test_a_missing_preset_program_says_how_to_install_it(self, tmp_path):
        with pytest.raises(MachineError) as caught:
            require_program(find_agent("claude", {}, "--agent"), str(tmp_path))
        assert caught.value.message == "program 'claude' of agent 'claude' is not on PATH"
        assert "npm install --global @anthropic-ai/claude-code@" in caught.value.hint

    def test_a_missing_program_of_ones_own_gets_no_foreign_advice(self, tmp_path):
        with pytest.raises(MachineError) as caught:
            require_program(agent("tool"), str(tmp_path))
        assert "npm" not in caught.value.hint

    def test_a_file_that_is_not_executable_is_no_program(self, tmp_path):
        path = self.program(tmp_path, mode=0o644)
        with pytest.raises(MachineError, match="is not an executable file"):
            require_program(agent(path), None)
        with pytest.raises(MachineError, match="is not on PATH"):
            require_program(agent("tool"), str(tmp_path))

    def test_a_resume_program_that_is_missing_is_seen_before_the_start(self, tmp_path):
        self.program(tmp_path)
        with pytest.raises(MachineError, match="'other'"):
            require_program(agent("tool", resume=("other",)), str(tmp_path))

    def test_without_a_path_the_one_of_this_process_is_searched(self, tmp_path, monkeypatch):
        path = self.program(tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert require_program(agent("tool"), None) == path


class TestEnvironment:
    def test_only_the_chosen_variables_are_inherited(self):
        assert build_environment(agent("x"), BASE, {}) == {
            "HOME": "/h",
            "PATH": "/bin",
            "LC_ALL": "C.UTF-8",
            "XDG_CACHE_HOME": "/c",
            "https_proxy": "p",
            "GIT_AUTHOR_NAME": "Ann",
            "SSL_CERT_FILE": "/cert",
        }

    def test_an_agent_gets_its_own_keys_and_not_another_agents(self):
        claude = build_environment(find_agent("claude", {}, ""), BASE, {}, as_root=False)
        assert claude["ANTHROPIC_API_KEY"] == "key"
        assert claude["CLAUDE_CONFIG_DIR"] == "/claude"
        assert not {"OPENAI_API_KEY", "CLAUDECODE", "CLAUDE_CODE_CHILD_SESSION"} & set(claude)
        codex = build_environment(find_agent("codex", {}, ""), BASE, {}, as_root=True)
        assert codex["OPENAI_API_KEY"] == "key"
        assert not any(name.startswith(("ANTHROPIC", "CLAUDE", "IS_")) for name in codex)

    def test_is_sandbox_is_set_as_root_only_and_never_inherited(self):
        claude = find_agent("claude", {}, "")
        assert build_environment(claude, BASE, {}, as_root=True)["IS_SANDBOX"] == "1"
        assert "IS_SANDBOX" not in build_environment(claude, BASE, {}, as_root=False)
        here = build_environment(claude, BASE, {})
        assert ("IS_SANDBOX" in here) == (os.geteuid() == 0)

    def test_the_users_env_wins_over_the_inherited_and_gangline_wins_over_all(self):
        mine = agent(
            "x",
            env={"HOME": "/other", "NEW": "1", "GANGLINE_AREA": "mine"},
            pass_env=("NEW",),
            as_root_env={"NEW": "root"},
        )
        made = build_environment(mine, {"HOME": "/h"}, {"GANGLINE_AREA": "client"}, as_root=True)
        assert made == {"HOME": "/other", "NEW": "1", "GANGLINE_AREA": "client"}

    def test_variables_can_be_passed_by_their_beginning(self):
        made = build_environment(agent("x", pass_env=("AWS_*",)), BASE, {})
        assert made["AWS_REGION"] == "r"

    def test_a_wide_pattern_passes_nothing_that_points_at_the_orchestrator(self):
        wide = agent("x", pass_env=("GIT_*", "TMUX*", "GANGLINE*"))
        made = build_environment(wide, BASE, {"GANGLINE_AREA": "client"})
        assert {name for name in made if name.startswith(("GIT", "TMUX", "GANG"))} == {
            "GIT_AUTHOR_NAME",
            "GANGLINE_AREA",
        }

    def test_every_variable_that_binds_git_to_a_repository_is_held_back(self):
        listed = subprocess.run(
            ["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True
        ).stdout.split()
        assert "GIT_DIR" in listed
        made = build_environment(agent("x", pass_env=("GIT_*",)), dict.fromkeys(listed, "x"), {})
        assert made == {}

    def test_a_real_process_sees_exactly_this_environment(self):
        made = build_environment(agent("x"), BASE, {"GANGLINE_ISSUE": "7"})
        seen = subprocess.run(
            [
                sys.executable,
                "-I",
                "-S",
                "-c",
                "import os; print(sorted(v for v in os.environ.items() if v[0][:4] != '__CF'))",
            ],
            env=made,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert seen.strip() == str(sorted(made.items()))


class TestGanglineOnPath:
    def test_it_stands_last_and_only_where_it_would_be_missing(self, tmp_path, monkeypatch):
        program = tmp_path / "gangline"
        program.write_text("#!/bin/sh\n")
        monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
        assert with_gangline({"PATH": "/bin"}) == {"PATH": "/bin"}
        program.chmod(0o755)
        assert with_gangline({"PATH": "/bin"}) == {"PATH": f"/bin:{tmp_path}"}
        there = {"PATH": f"{tmp_path}:/bin"}
        assert with_gangline(there) == there
