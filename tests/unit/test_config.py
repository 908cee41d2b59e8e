"""gangline.toml: every key is known or refused with its path, its value and what was expected.

`refusal` gives the error of one text; most tests are a line of TOML and what the user is told.
"""

import itertools
import os
import re
import subprocess
import sys
import tomllib

import msgspec
import pytest

from gangline.agents.registry import AgentConfig, find_agent
from gangline.app.config import (
    CONFIG_BYTES_MAX,
    load_config,
    parse_config,
    render_prompt,
)
from gangline.app.config_template import template
from gangline.app.settings import DEFAULT_PROMPT, BudgetConfig, Config
from gangline.core.model import IssueSpec
from gangline.errors import EXIT_USAGE, ConfigError
from gangline.workspaces.git import render_branch


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert caught.value.exit_code == EXIT_USAGE
    return caught.value


class TestReading:
    def load(self, folder, data: bytes) -> Config:
        (folder / "gangline.toml").write_bytes(data)
        return load_config(str(folder))

    def test_without_a_file_everything_is_at_its_default(self, tmp_path):
        config = load_config(str(tmp_path))
        assert config == Config() == parse_config("")
        assert (config.batch.max_concurrent, config.batch.log_mb) == (4, 100)
        assert (config.batch.poll_seconds, config.batch.stall_minutes) == (30, 10)
        assert config.batch.attempt_minutes is None
        assert config.batch.on_failed_dependency == "run"
        assert (config.batch.keep_failed_panes, config.batch.keep_completed_panes) == (True, False)
        assert (config.retry.max, config.retry.on_failure) == (1, False)
        assert (config.workspace.kind, config.workspace.base) == (None, None)
        assert config.workspace.branch == "gangline/{area}/issue-{issue}"
        assert config.agents == {}

    def test_every_key_is_read(self, tmp_path):
        config = self.load(
            tmp_path,
            b"""
            [batch]
            from = "issues"
            agent = "mine"
            prompt = "/dev-pipeline {area} #{issue}"
            max_concurrent = 1000
            attempt_minutes = 0.5
            log_mb = 1
            poll_seconds = 5
            stall_minutes = 2.5
            on_failed_dependency = "skip"
            panes = "managed"
            keep_failed_panes = false
            keep_completed_panes = true
            [retry]
            max = 0
            on_failure = true
            [workspace]
            kind = "shared"
            base = "origin/main"
            branch = "{area}/{issue}"
            setup = ["npm", "ci"]
            [verify]
            command = []
            [done]
            require = []
            [tmux]
            socket = "/run/tmux/private"
            [agents.mine]
            start = ["tool", "{prompt_file}"]
            resume = ["tool", "-r", "{session}"]
            prompt = "file"
            env = {A = "1"}
            pass = ["KEY"]
            """,
        )
        assert config.batch.source == "issues"
        assert config.batch.prompt == "/dev-pipeline {area} #{issue}"
        assert config.batch.attempt_minutes == 0.5
        assert config.retry.max == 0
        assert config.workspace.setup == ("npm", "ci")
        assert config.tmux.socket == "/run/tmux/private"
        assert config.agents["mine"] == AgentConfig(
            start=("tool", "{prompt_file}"),
            resume=("tool", "-r", "{session}"),
            prompt="file",
            env={"A": "1"},
            pass_env=("KEY",),
        )
        assert find_agent("mine", config.agents, "--agent").prompt == "file"

    def test_a_byte_order_mark_and_windows_line_ends_are_read(self, tmp_path):
        text = b"\xef\xbb\xbf[batch]\r\nmax_concurrent = 2\r\n"
        assert self.load(tmp_path, text).batch.max_concurrent == 2

    def test_text_that_is_not_utf8_is_refused_with_its_line(self, tmp_path):
        with pytest.raises(ConfigError) as caught:
            self.load(tmp_path, b'[batch]\n# fine\nfrom = "\xff"\n')
        assert caught.value.place == "gangline.toml:3"

    def test_a_huge_file_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="larger than"):
            self.load(tmp_path, b"#" * (CONFIG_BYTES_MAX + 1))
        assert self.load(tmp_path, b"#" * CONFIG_BYTES_MAX) == Config()

    def test_a_file_that_cannot_be_read_is_not_taken_for_absent(self, tmp_path):
        (tmp_path / "gangline.toml").mkdir()
        with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
            load_config(str(tmp_path))

    def test_without_a_file_neither_toml_nor_difflib_is_imported(self, tmp_path):
        code = (
            "import sys; from gangline.app.config import load_config; load_config(sys.argv[1]); "
            "print({'tomllib', 'difflib', 'shutil', 'subprocess', 'yaml'} & set(sys.modules))"
        )
        run = [sys.executable, "-c", code, str(tmp_path)]
        output = subprocess.run(run, capture_output=True, text=True, check=True).stdout
        assert output.strip() == "set()"


class TestSyntax:
    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("[batch]\nmax_concurrent 4\n", "gangline.toml:2:16"),
            ("\n\n[batch\n", "gangline.toml:3:7"),
            ('[batch]\nfrom = "', "gangline.toml:2:9"),
            ("[batch]\n\n[batch]\n", "gangline.toml:3:7"),
            ("[retry]\nmax = ", "gangline.toml:2:7"),
        ],
    )
    def test_bad_toml_is_refused_with_line_and_column(self, text, place):
        error = refusal(text)
        assert error.place == place
        assert error.message.startswith("it is not valid TOML: ")
        assert "line" not in error.message, "the place says it already"

    def test_what_the_parser_cannot_hold_is_an_error_of_the_file(self):
        assert refusal("a = " + "9" * 5000).place == "gangline.toml"
        assert refusal("a = " + "[" * 100_000).message.startswith("it is not valid TOML")


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("text", "path", "hint"),
        [
            ("[batch]\nmax_concurent = 3", "batch.max_concurent", "did you mean max_concurrent?"),
            ("[batch]\nsource = 'x'", "batch.source", "known here: from, agent, prompt"),
            ("[bacth]\nagent = 'x'", "bacth", "did you mean batch?"),
            ("max_concurrent = 3", "max_concurrent", "max_concurrent belongs under [batch]"),
            ("[batch]\nsocket = 'x'", "batch.socket", "socket belongs under [tmux]"),
            (
                "[zzz]",
                "zzz",
                "known here: batch, retry, workspace, verify, done, stall, budget, tmux, agents",
            ),
            ("[agents.mine]\nstrat = ['x']", "agents.mine.strat", "did you mean start?"),
            ("[agents.mine]\npass_env = ['x']", "agents.mine.pass_env", "did you mean pass?"),
            ("[retry]\n'a b' = 1", 'retry."a b"', "known here: max, on_failure"),
        ],
    )
    def test_an_unknown_key_is_refused_with_the_meant_one(self, text, path, hint):
        error = refusal(text)
        assert error.place == f"gangline.toml: {path}"
        assert error.message == f"there is no key {path}"
        assert error.hint.startswith(hint)

    def test_the_wrong_key_is_named_even_beside_a_wrong_value(self):
        error = refusal("[batch]\nmax_concurrent = 0\nzzz = 1")
        assert error.place == "gangline.toml: batch.zzz"


class TestValues:
    @pytest.mark.parametrize(
        ("path", "value", "found", "expected"),
        [
            ("batch.max_concurrent", "0", "0", "an integer from 1 to 1000"),
            ("batch.max_concurrent", "-1", "-1", "an integer from 1 to 1000"),
            ("batch.max_concurrent", "1001", "1001", "an integer from 1 to 1000"),
            ("batch.max_concurrent", "2.0", "2.0", "an integer from 1 to 1000"),
            ("batch.max_concurrent", "true", "true", "an integer from 1 to 1000"),
            ("batch.max_concurrent", '"4"', 'the string "4"', "an integer from 1 to 1000"),
            ("batch.attempt_minutes", "0", "0", "a number of minutes above 0"),
            ("batch.attempt_minutes", "nan", "nan", "a number of minutes above 0"),
            ("batch.attempt_minutes", "inf", "inf", "a number of minutes above 0"),
            ("batch.attempt_minutes", "2026-01-02", "2026-01-02", "a number of minutes above 0"),
            ("batch.log_mb", "0", "0", "an integer from 1"),
            ("batch.log_mb", "1.5", "1.5", "an integer from 1"),
            ("batch.poll_seconds", "0", "0", "a number of seconds above 0"),
            ("batch.poll_seconds", "-0.5", "-0.5", "a number of seconds above 0"),
            ("batch.stall_minutes", "0", "0", "a number of minutes above 0"),
            ("batch.keep_failed_panes", "1", "1", "true or false"),
            ("batch.keep_completed_panes", '"yes"', 'the string "yes"', "true or false"),
            ("batch.from", '""', 'the string ""', "a string that is not empty"),
            ("batch.agent", "[]", "a list", "a string that is not empty"),
            ("batch.prompt", "{}", "a table", "a string that is not empty"),
            ("batch.panes", '"idel"', 'the string "idel"', 'one of "managed", "idle"'),
            ("batch.on_failed_dependency", "1", "1", 'one of "run", "skip"'),
            ("retry.on_failure", "0", "0", "true or false"),
            ("workspace.kind", '"tree"', 'the string "tree"', 'one of "worktree", "shared"'),
            ("workspace.setup", "1", "1", "a list of strings"),
            ("workspace.base", '"-x"', 'the string "-x"', "a branch, tag or commit"),
            ("workspace.base", '"a b"', 'the string "a b"', "a branch, tag or commit"),
            ("verify.command", "true", "true", "a list of strings"),
            ("done.require", '"x"', 'the string "x"', "a list of strings"),
            ("tmux.socket", '"-x"', 'the string "-x"', "a name, or an absolute path"),
            ("tmux.socket", '"~/s"', 'the string "~/s"', "a name, or an absolute path"),
            ("tmux.socket", '"a/b"', 'the string "a/b"', "a name, or an absolute path"),
            ("tmux.socket", r'"a\u0000"', r'the string "a\u0000"', "a name, or an absolute path"),
            ("agents.mine.prompt", '"tty"', 'the string "tty"', 'one of "argv", "stdin", "file"'),
            ("agents.mine.env", "[]", "a list", "a table of strings"),
        ],
    )
    def test_a_wrong_value_is_refused_with_what_was_found_and_expected(
        self, path, value, found, expected
    ):
        error = refusal(f"{path} = {value}")
        assert error.place == f"gangline.toml: {path}"
        assert error.message.startswith(f"{path} is {found}; expected {expected}")

    @pytest.mark.parametrize(
        ("text", "path", "found"),
        [
            ("agents.mine.start = ['x', 1]", "agents.mine.start[1]", "1"),
            ("workspace.setup = [['x']]", "workspace.setup[0]", "a list"),
            ("agents.mine.env = {A = 'x', B = true}", "agents.mine.env.B", "true"),
            ("agents.mine.env = {'a b' = 2}", 'agents.mine.env."a b"', "2"),
        ],
    )
    def test_a_wrong_element_is_named_exactly(self, text, path, found):
        error = refusal(text)
        assert error.place == f"gangline.toml: {path}"
        assert error.message == f"{path} is {found}; expected a string"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("batch = 3", "batch is 3; expected a table: [batch]"),
            ("[[batch]]", "batch is a list; expected a table: [batch]"),
            ("agents = 'claude'", 'agents is the string "claude"; expected a table: [agents.NAME]'),
            ("agents.mine = ['x']", "agents.mine is a list; expected a table: [agents.mine]"),
        ],
    )
    def test_a_section_that_is_no_table_is_refused(self, text, message):
        assert refusal(text).message == message

    def test_a_long_string_is_cut_in_the_message(self):
        assert len(refusal(f"batch.panes = '{'x' * 5000}'").message) < 200

    @pytest.mark.parametrize("key", ["batch.max_concurrent", "batch.poll_seconds"])
    def test_a_number_too_long_to_print_is_refused_like_any_other(self, key):
        assert refusal(f"{key} = 0x{'f' * 5000}").message.startswith(f"{key} is a huge number;")

    @pytest.mark.parametrize("value", ["2", "-1", "10"])
    def test_more_than_one_retry_is_refused_with_the_specifications_limit(self, value):
        error = refusal(f"[retry]\nmax = {value}")
        assert error.message == f"retry.max is {value}; expected 0 or 1"
        assert "one automatic re-dispatch of an issue at most" in error.hint
        assert "gangline retry AREA ISSUE" in error.hint

    def test_a_misspelt_choice_is_refused_with_the_meant_one(self):
        assert refusal("batch.on_failed_dependency = 'skipp'").hint == "did you mean skip?"

    @pytest.mark.parametrize("key", ["workspace.setup", "verify.command"])
    def test_a_command_as_one_string_is_refused_with_the_list_to_write(self, key):
        error = refusal(f"{key} = 'npm ci && echo \"done\"'")
        name = key.partition(".")[2]
        assert error.hint == f'write {name} = ["sh", "-c", "npm ci && echo \\"done\\""]'
        written = tomllib.loads(error.hint.removeprefix("write "))[name]
        assert written == ["sh", "-c", 'npm ci && echo "done"']

    def test_an_agents_command_as_one_string_is_refused_with_the_list_to_write(self):
        assert refusal("agents.mine.start = 'tool -p'").hint == 'write start = ["tool", "-p"]'


class TestMeaning:
    @pytest.mark.parametrize("text", ["verify.command = ['make']", "done.require = ['pushed']"])
    def test_what_is_not_built_is_refused_and_not_ignored(self, text):
        error = refusal(text)
        assert "is not available in this version" in error.message
        assert error.place == f"gangline.toml: {text.partition(' ')[0]}"

    def test_an_unknown_placeholder_of_the_prompt_is_refused(self):
        error = refusal("batch.prompt = 'do {titel}'")
        assert error.place == "gangline.toml: batch.prompt"
        assert error.hint == "did you mean {title}?"

    def test_the_agents_placeholders_are_not_those_of_the_prompt(self):
        assert "{session} is not a placeholder" in refusal("batch.prompt = '{session}'").message

    @pytest.mark.parametrize(
        ("branch", "missing"),
        [("issue-{issue}", "area"), ("gangline/{area}", "issue"), ("{area}/${issue}", "issue")],
    )
    def test_a_branch_that_two_issues_could_share_is_refused(self, branch, missing):
        error = refusal(f"workspace.branch = '{branch}'")
        assert f"does not hold {{{missing}}}" in error.message
        assert error.place == "gangline.toml: workspace.branch"

    def test_an_unknown_placeholder_of_the_branch_is_refused(self):
        error = refusal("workspace.branch = '{area}/{issue}/{title}'")
        assert error.message == "{title} is not a placeholder"

    @pytest.mark.parametrize(
        "frame",
        [
            *("{}", "x/{}", "{}-é", "a.b/{}", "x@{}", "{}.d", "{}/{{"),
            *("-{}", "/{}", "{}/", "a//{}", "a b/{}", "{}..x", ".a/{}", "a/.{}", "{}.", "{}.lock"),
            *("a.lock/{}", "{}~1", "{}^", "{}:x", "{}?", "{}*", "{}[", "{}\\", "x@{{{}", "\t{}"),
        ],
    )
    def test_a_branch_is_accepted_exactly_when_git_accepts_it(self, frame):
        branch = frame.format("{area}/{issue}")
        name = render_branch(branch, area="client", issue="7")
        git = subprocess.run(
            ["git", "check-ref-format", "--branch", name], capture_output=True, check=False
        )
        text = f"workspace.branch = {msgspec.json.encode(branch).decode()}"
        if git.returncode == 0:
            assert parse_config(text).workspace.branch == branch
        else:
            assert "not a name that git allows" in refusal(text).message

    def test_an_agents_table_is_checked_with_its_key_path(self):
        error = refusal("[agents.mine]\nstart = ['tool', '{promt}']")
        assert error.place == "gangline.toml: agents.mine.start[1]"
        assert refusal("agents.mine.prompt = 'argv'").place == "gangline.toml: agents.mine"

    def test_an_unknown_agent_of_the_batch_is_refused(self):
        error = refusal("batch.agent = 'claud'")
        assert error.place == "gangline.toml: batch.agent"
        assert error.hint == "did you mean claude?"

    def test_an_agent_of_ones_own_is_known_to_the_batch(self):
        config = parse_config("batch.agent = 'mine'\n[agents.mine]\nstart = ['x']")
        assert config.batch.agent == "mine"

    @pytest.mark.parametrize("argv", ["['']", "['~/x']", r'["a", "b\u0000"]'])
    def test_a_setup_that_cannot_be_started_is_refused(self, argv):
        assert refusal(f"workspace.setup = {argv}").place.startswith(
            "gangline.toml: workspace.setup"
        )


class TestPrompt:
    ISSUE = IssueSpec(id=7, title="Fix {body}", body='{"a": "{area}"}\0', place="x")

    def test_the_specifications_prompt_can_be_written(self):
        template_text = "/dev-pipeline {area} #{issue}"
        assert render_prompt(template_text, area="client", issue=self.ISSUE) == (
            "/dev-pipeline client #7"
        )

    def test_what_an_issue_holds_is_not_replaced_again(self):
        text = render_prompt("{title}|{body}", area="client", issue=self.ISSUE)
        assert text == 'Fix {body}|{"a": "{area}"}'

    def test_the_default_prompt_gives_the_whole_issue_and_asks_for_a_commit(self):
        text = render_prompt(DEFAULT_PROMPT, area="client", issue=self.ISSUE)
        assert text.startswith('Fix {body}\n\n{"a": "{area}"}\n')
        assert "commit your work on the current branch" in text


class TestTemplate:
    def uncommented(self) -> str:
        return re.sub(r"(?m)^#(?! )", "", template())

    def test_the_template_as_it_is_changes_nothing(self):
        assert parse_config(template()) == Config()

    def test_with_every_setting_switched_on_it_decodes_to_the_defaults_and_examples(self):
        config = parse_config(self.uncommented())
        batch = msgspec.structs.replace(config.batch, source=None, agent=None, attempt_minutes=None)
        workspace = msgspec.structs.replace(config.workspace, kind=None, base=None)
        tmux = msgspec.structs.replace(config.tmux, socket=None)
        plain = msgspec.structs.replace(
            config, batch=batch, workspace=workspace, tmux=tmux, budget=BudgetConfig(), agents={}
        )
        assert None not in msgspec.structs.astuple(config.budget)
        assert plain == Config()
        assert list(config.agents) == ["mine"]

    def test_every_key_stands_in_the_template(self):
        document = tomllib.loads(self.uncommented())
        assert set(document) == set(Config.__struct_fields__)
        for name, struct in Config.__annotations__.items():
            table, keys = document[name], struct
            if name == "agents":
                table, keys = document["agents"]["mine"], AgentConfig
            assert set(table) == set(keys.__struct_encode_fields__), name

    def test_every_setting_has_a_line_of_why_above_it(self):
        lines = template().splitlines()
        for above, line in itertools.pairwise(lines):
            if re.match(r"#[a-z_]+ = ", line):
                assert above.startswith("# "), line
        assert max(map(len, lines)) <= 100

    def test_the_template_names_no_path_of_a_machine(self):
        assert os.path.expanduser("~") not in template()
