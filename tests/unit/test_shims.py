"""The shims are thin: every function is one call of the program, in every shell they promise."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gangline.cli.shell import VERBS, run_shell
from gangline.errors import UsageError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
HELPERS = SCRIPTS / "orchestrate-helpers.sh"
PARSER = SCRIPTS / "parse-dependencies.sh"
SHELLS = {
    "bash": ["bash", "--norc"],
    "bash as a POSIX shell": ["bash", "--norc", "--posix"],
    "zsh": ["zsh", "-f"],
    "zsh as a POSIX shell": ["zsh", "--emulate", "sh", "-o", "no_rcs"],
    "zsh as ksh": ["zsh", "--emulate", "ksh", "-o", "no_rcs"],
}
FUNCTIONS = [
    "orch_init",
    "orch_state_path",
    "orch_state_read",
    "orch_state_update",
    "orch_status_set",
    "orch_find_idle_panes",
    "orch_pane_alive",
    "orch_dispatch",
    "orch_record_dispatch",
    "orch_check_completion",
    "orch_update_last_activity",
    "orch_detect_stall",
    "orch_unblock",
    "orch_release_pane",
    "orch_poll_cycle",
    "orch_print_summary",
    "orch_verify_startup",
]
FUNCTION = re.compile(r'(orch_[a-z_]+)\(\) \{ "\$\{GANGLINE:-gangline\}" shell ([a-z-]+) "\$@"; \}')
HARD_WORDS = ["", "a b", "*", "$(exit 9)", "it's", '"', "two\nlines", "-n", "\\", "é", "~", "!x"]
# What is said of each call: the count, then every argument in brackets.
FAKE = "#!/bin/sh\nprintf '%s' \"$#\"\nprintf '[%s]' \"$@\"\nexit 7\n"
# Everything a sourced file could change, but for the functions it is there to define.
PRINT_WORLD = """
    world() {
        set +o; alias; trap; umask; pwd; printf '%s\\n' "$PATH"
        if [ -n "${ZSH_VERSION:-}" ]; then setopt; typeset +; else shopt; compgen -v; fi
    }
    before= after=
    before=$-$(world)  # $- here as well: in bash a substitution has no `set -e`
    . "$1"
    after=$-$(world)
    [ "$before" = "$after" ] || { printf '%s\\n' "$before" ---- "$after"; exit 1; }
"""


def needed(program):
    assert shutil.which(program), f"{program} is needed by this test: `make test` installs it"
    return program


def shell_run(shell, *arguments, **options):
    needed(SHELLS[shell][0])
    done = subprocess.run(
        [*SHELLS[shell], *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def fake(tmp_path):
    """A program that says what it was called with, in a folder with a space in its name."""
    path = tmp_path / "a folder" / "gangline"
    path.parent.mkdir()
    path.write_text(FAKE)
    path.chmod(0o755)
    return path


def said(*words):
    return str(len(words)) + "".join(f"[{word}]" for word in words)


def functions():
    """Each function of the helpers and the verb it calls; no other line does anything."""
    lines = HELPERS.read_text().splitlines()
    code = [line for line in lines if line and not line.startswith("#")]
    matches = [FUNCTION.fullmatch(line) for line in code]
    assert all(matches), f"more than one call: {code[matches.index(None)]}"
    return {match[1]: match[2] for match in matches}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("script", [HELPERS, PARSER], ids=lambda path: path.name)
def test_shell_reads_script_without_complaint(shell, script):
    assert shell_run(shell, "-n", str(script)) == (0, "", "")


def test_every_function_is_exactly_one_call_of_the_verb_with_its_name():
    for function, verb in functions().items():
        assert verb == function.removeprefix("orch_").replace("_", "-")


def test_functions_are_those_of_the_specification_and_each_verb_is_there():
    found = functions()
    assert list(found) == FUNCTIONS
    assert {*found.values(), "install", "dependencies", "check-cycles"} == set(VERBS)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("options", [":", "set -euo pipefail", "set -f"])
def test_sourcing_defines_functions_and_changes_nothing_else(shell, options):
    script = f"{options}\n{PRINT_WORLD}\n{options}\ntype orch_init >/dev/null && echo defined"
    assert shell_run(shell, "-c", script, "shell", str(HELPERS)) == (0, "defined\n", "")


def test_planted_change_is_seen_by_the_test_before(tmp_path):
    for shell in SHELLS:
        for change in ("set +e", "planted=1", "alias planted=true", "umask 000", "cd /"):
            planted = tmp_path / "planted.sh"
            planted.write_text(f"{change}\n{HELPERS.read_text()}")
            script = f"set -e\numask 022\n{PRINT_WORLD}"
            code, _, _ = shell_run(shell, "-c", script, "shell", str(planted), cwd=tmp_path)
            assert code != 0, f"{shell}: {change}"


@pytest.mark.parametrize("shell", SHELLS)
def test_functions_pass_arguments_and_exit_code_on_unchanged(shell, fake):
    script = 'set -euo pipefail; . "$1"; shift; GANGLINE=$1; shift; code=0; '
    for function, verb in functions().items():
        call = f'{function} "$@" || code=$?; printf "=%s" "$code"'
        for words in (HARD_WORDS, []):
            done = shell_run(shell, "-c", script + call, "shell", str(HELPERS), str(fake), *words)
            expected = said("shell", verb, *words)
            assert done == (0, f"{expected}=7", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_without_gangline_variable_the_program_on_path_is_called(shell, fake):
    script = f'set -u; unset GANGLINE; PATH="{fake.parent}:$PATH"; . "$1"; orch_state_read work'
    done = shell_run(shell, "-c", script, "shell", str(HELPERS))
    assert done == (7, said("shell", "state-read", "work"), "")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "passed"),
    [
        (["3"], ["dependencies", "3"]),
        (["3", "my issues"], ["dependencies", "3", "my issues"]),
        ([], ["dependencies"]),
        (["--check-cycles", "[3]", "{}"], ["check-cycles", "[3]", "{}"]),
        (["--check-cycles"], ["check-cycles"]),
        (HARD_WORDS, ["dependencies", *HARD_WORDS]),
    ],
)
def test_parser_is_one_call_as_well(shell, words, passed, fake):
    done = shell_run(shell, str(PARSER), *words, env={**os.environ, "GANGLINE": str(fake)})
    assert done == (7, said("shell", *passed), "")


def test_parser_can_be_executed_by_its_name(fake):
    done = subprocess.run(
        [str(PARSER), "3"],
        env={**os.environ, "GANGLINE": str(fake)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout.decode()) == (7, said("shell", "dependencies", "3"))


@pytest.mark.parametrize("script", [HELPERS, PARSER], ids=lambda path: path.name)
def test_first_comment_is_the_mark_with_the_digest_of_all_other_lines(script):
    lines = script.read_bytes().splitlines(keepends=True)
    place = 1 if lines[0].startswith(b"#!") else 0
    content = b"".join(lines[:place] + lines[place + 1 :])
    right = f"# gangline shell install sha256={hashlib.sha256(content).hexdigest()}\n"
    assert lines[place].decode() == right, "the script has changed: put this digest into it"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "release-pane"])
def test_number_of_arguments_is_that_of_the_usage(verb):
    _, least, most, usage, _ = VERBS[verb]
    words = usage.split()
    assert (least, most) == (sum(word[0] != "[" for word in words), len(words))


@pytest.mark.parametrize("verb", VERBS)
def test_wrong_number_of_arguments_is_refused_with_the_usage(verb):
    _, least, most, usage, _ = VERBS[verb]
    for count in (least - 1, most + 1):
        if count >= 0:
            with pytest.raises(UsageError) as refused:
                run_shell([verb, *["x"] * count])
            assert f", not {count}" in refused.value.message
            assert refused.value.hint == f"usage: gangline shell {verb} {usage}"


def test_unknown_verb_is_refused_with_what_was_meant():
    with pytest.raises(UsageError) as refused:
        run_shell(["state-raed", "work"])
    assert refused.value.hint == "did you mean 'state-read'?"


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_every_verb_with_its_usage(argv, capsys):
    assert run_shell(argv) == 0
    shown = capsys.readouterr().out
    for verb, (_, _, _, usage, meaning) in VERBS.items():
        assert f"  {verb} {usage}\n      {meaning}\n" in shown


def test_help_of_a_verb_is_its_usage(capsys):
    assert run_shell(["check-cycles", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: gangline shell check-cycles ISSUES_JSON")


def test_choosing_a_verb_imports_nothing_slow():
    code = "import sys, gangline.cli.shell; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    slow = {"click", "msgspec", "yaml", "json", "typing", "subprocess", "re", "gangline.app"}
    assert slow.isdisjoint(done.stdout.split())
