"""`gangline shell install` puts the shims into a repository and spoils nothing that is there."""

import hashlib
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from project import SAFETY_SECONDS

ROOT = Path(__file__).resolve().parents[2]
HELPERS = "orchestrate-helpers.sh"
PARSER = "parse-dependencies.sh"
SCRIPTS = {name: (ROOT / "scripts" / name).read_bytes() for name in (HELPERS, PARSER)}
MARK = "# gangline shell install sha256="


def installed(project):
    """The scripts that are in the project, by name."""
    return {path.name: path.read_bytes() for path in (project.folder / "scripts").iterdir()}


def of_another_version(content):
    """A script as an older Gangline could have written it, with the mark it would bear."""
    lines = [line for line in content.decode().splitlines() if not line.startswith(MARK)]
    place = 1 if lines[0].startswith("#!") else 0
    lines.append("# as it was in an older version")
    text = "".join(f"{line}\n" for line in lines)
    lines.insert(place, MARK + hashlib.sha256(text.encode()).hexdigest())
    return "".join(f"{line}\n" for line in lines).encode()


def test_both_scripts_are_written_as_they_are_shipped(project):
    said = project.run("shell", "install", check=0).stdout
    assert installed(project) == SCRIPTS
    for name in SCRIPTS:
        assert f"wrote {project.folder}/scripts/{name}\n" in said
    assert "next: source scripts/orchestrate-helpers.sh\n" in said


def test_only_the_script_to_be_executed_is_executable(project):
    project.run_shell('umask 022; "$0" -m gangline shell install')
    scripts = project.folder / "scripts"
    assert stat.S_IMODE((scripts / PARSER).stat().st_mode) == 0o755
    assert stat.S_IMODE((scripts / HELPERS).stat().st_mode) == 0o644


def test_strict_umask_is_kept_to(project):
    project.run_shell('umask 077; "$0" -m gangline shell install')
    scripts = project.folder / "scripts"
    assert stat.S_IMODE((scripts / PARSER).stat().st_mode) == 0o700
    assert stat.S_IMODE((scripts / HELPERS).stat().st_mode) == 0o600


def test_second_install_changes_nothing(project):
    project.run("shell", "install", check=0)
    before = project.snapshot()
    said = project.run("shell", "install", check=0).stdout
    assert project.snapshot() == before
    assert said.count("unchanged ") == 2


def test_they_go_to_the_top_of_the_repository_from_a_folder_below(project):
    project.write("src/deep/code.txt", "")
    project.run("shell", "install", check=0, cwd=project.folder / "src" / "deep")
    assert installed(project) == SCRIPTS


def test_folder_without_git_gets_them_as_well(folder_without_git):
    folder_without_git.run("shell", "install", check=0)
    assert installed(folder_without_git) == SCRIPTS


def test_other_scripts_of_the_repository_are_left_alone(project):
    project.write("scripts/build.sh", "make\n")
    project.run("shell", "install", check=0)
    assert installed(project) == {**SCRIPTS, "build.sh": b"make\n"}


def test_script_of_an_older_version_is_replaced(project):
    for name, content in SCRIPTS.items():
        project.write(f"scripts/{name}", of_another_version(content))
    said = project.run("shell", "install", check=0).stdout
    assert installed(project) == SCRIPTS
    assert said.count("replaced ") == 2
    assert (project.folder / "scripts" / PARSER).stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("version", ["of today", "older"])
@pytest.mark.parametrize("change", [b"\n", b"# mine\n", b"orch_init() { true; }\n"])
def test_script_that_a_person_changed_is_refused_and_nothing_written(
    project, name, version, change
):
    content = SCRIPTS[name] if version == "of today" else of_another_version(SCRIPTS[name])
    project.write(f"scripts/{name}", content + change)
    said = project.refusal("shell", "install")
    assert "this file was changed after `gangline shell install` wrote it" in said
    assert f"at: {project.folder}/scripts/{name}" in said
    path = f"{project.folder}/scripts/{name}"
    assert f"hint: move it away: mv {path} {path}.aside" in said


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    "content", [b"", b"echo mine\n", b"\xff\n", MARK.encode() + b"1234\n", b"x" * 2_000_000]
)
def test_file_of_somebody_else_is_refused_and_nothing_written(project, name, content):
    project.write(f"scripts/{name}", content)
    said = project.refusal("shell", "install")
    assert "there is something that `gangline shell install` did not write" in said
    assert "hint: move it away: mv " in said


@pytest.mark.parametrize("target", ["elsewhere.sh", "missing.sh"])
def test_link_in_the_place_of_a_script_is_refused(project, target):
    project.write("elsewhere.sh", SCRIPTS[HELPERS])
    (project.folder / "scripts").mkdir()
    (project.folder / "scripts" / HELPERS).symlink_to(project.folder / target)
    assert "did not write" in project.refusal("shell", "install")


def test_folder_in_the_place_of_a_script_is_refused(project):
    project.write(f"scripts/{PARSER}/file", "")
    assert "did not write" in project.refusal("shell", "install")


def test_file_in_the_place_of_the_folder_is_refused(project):
    project.write("scripts", "a file\n")
    assert "scripts is not a folder" in project.refusal("shell", "install")


def test_folder_that_leads_out_of_the_repository_is_refused(project):
    outside = project.room / "outside"
    outside.mkdir()
    (project.folder / "scripts").symlink_to(outside)
    assert "scripts leads out of the repository" in project.refusal("shell", "install")
    assert list(outside.iterdir()) == []


def test_folder_that_is_a_link_within_the_repository_is_used(project):
    (project.folder / "tools").mkdir()
    (project.folder / "scripts").symlink_to("tools")
    project.run("shell", "install", check=0)
    assert installed(project) == SCRIPTS


def test_after_moving_it_away_as_the_hint_says_they_are_installed(project):
    project.write(f"scripts/{HELPERS}", "mine\n")
    hint = project.refusal("shell", "install").partition("mv ")[2].partition(" and install")[0]
    assert project.run_shell(f"mv {hint}").returncode == 0
    project.run("shell", "install", check=0)
    assert installed(project) == {**SCRIPTS, f"{HELPERS}.aside": b"mine\n"}


def test_print_shows_both_and_writes_nothing(project):
    before = project.snapshot()
    said = project.run("shell", "install", "--print", check=0).stdout
    assert project.snapshot() == before
    for name, content in SCRIPTS.items():
        assert f"==> scripts/{name} <==\n{content.decode()}" in said


@pytest.mark.parametrize("arguments", [["--prnt"], ["--force"], ["--print", "--print"], [""]])
def test_other_arguments_are_refused(project, arguments):
    said = project.refusal("shell", "install", *arguments)
    assert "hint: usage: gangline shell install [--print]" in said


def test_missing_program_is_said_with_the_way_to_name_it(project):
    note = "note: gangline is not on PATH"
    alone = project.only_programs("git")
    assert note in project.run("shell", "install", check=0, env=alone).stdout
    named = {**alone, "GANGLINE": "/some/gangline"}
    assert note not in project.run("shell", "install", check=0, env=named).stdout
    project.program("gangline", "")
    assert note not in project.run("shell", "install", check=0, env=alone).stdout


def test_full_disk_is_said_and_leaves_no_part_of_a_file(project):
    done = project.run_shell('ulimit -f 0; "$0" -m gangline shell install')
    assert done.returncode == 2
    assert "machine error: it cannot be written: File too large" in done.stderr
    assert f"at: {project.folder}/scripts/{HELPERS}" in done.stderr
    assert installed(project) == {}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_installed_functions_reach_the_program(project, shell):
    assert shutil.which(shell), f"{shell} is needed by this test: `make test` installs it"
    project.program("gangline", f'exec "{sys.executable}" -m gangline "$@"')
    project.run("shell", "install", check=0)
    done = subprocess.run(
        [shell, "-c", "set -euo pipefail; source scripts/orchestrate-helpers.sh; orch_state_read"],
        cwd=project.folder,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SAFETY_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "hint: usage: gangline shell state-read AREA" in done.stderr


def test_wheel_brings_the_scripts_along(project):
    built = project.room / "built"
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)],
        cwd=ROOT,
        env={**project.environment, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=True,
        timeout=SAFETY_SECONDS,
    )
    (wheel,) = built.glob("*.whl")
    unpacked = project.room / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    env = {"PYTHONPATH": str(unpacked)}
    where = '"$0" -c "import gangline; print(gangline.__file__)"'
    assert project.run_shell(where, env).stdout.startswith(str(unpacked))
    project.run("shell", "install", check=0, env=env)
    assert installed(project) == SCRIPTS
