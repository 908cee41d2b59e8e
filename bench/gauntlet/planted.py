"""Planted bugs: mistakes that peers really made, put into a copy of the program, one at a time.

A checker that catches none is not a checker. Each is one change of the source text; the copy runs
under a Python environment of its own, so that the runner and every child of a test run it too.
What is to catch it is one of the proofs: it has to pass on the true program, and to fail on the
changed one.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
_COPIED = ("src", "tests", "bench", "scripts", "pyproject.toml", "README.md", "LICENSE")
_SECONDS_MAX = 900
_TELLING = ("FAILED", "BROKEN")


class Planted(NamedTuple):
    """One planted bug.

    Attributes:
        name: The mistake, in words.
        file: Below src/gangline.
        before: Text that occurs once in it.
        after: What is put in its place.
        caught_by: Pytest arguments, or a script and its arguments; each alone has to catch it.
        also: Further changes: file, before and after.
    """

    name: str
    file: str
    before: str
    after: str
    caught_by: tuple[str, ...]
    also: tuple[tuple[str, str, str], ...] = ()


class Caught(NamedTuple):
    """What came of one checker on one planted bug; `why` is its last line."""

    planted: Planted
    checker: str
    caught: bool
    why: str


def run(planted: Planted, room: Path) -> list[Caught]:
    """Plant it in a copy and run its checkers there.

    Raises:
        ValueError: the text to change is not there exactly once: the table has to be mended.
    """
    checkers = enumerate(planted.caught_by)
    return [run_checker(planted, checker, room / str(number)) for number, checker in checkers]


def run_checker(planted: Planted, checker: str, room: Path) -> Caught:
    """Plant it in a copy and run this checker there."""
    tree = room / "tree"
    _copy(tree)
    for file, text in changed(planted).items():
        (tree / "src" / "gangline" / file).write_text(text)
    returncode, why = _outcome(checker, tree, environment(room / "venv", tree))
    # 1: a promise or a test is broken. Anything else (no such test, a broken copy) catches nothing.
    return Caught(planted, checker, returncode == 1 and why.startswith(_TELLING), why)


def changed(planted: Planted) -> dict[str, str]:
    """The files that it changes, as they become.

    Raises:
        ValueError: the text to change is not there exactly once: the table has to be mended.
    """
    texts: dict[str, str] = {}
    for file, before, after in ((planted.file, planted.before, planted.after), *planted.also):
        text = texts.get(file) or (ROOT / "src" / "gangline" / file).read_text()
        if text.count(before) != 1:
            raise ValueError(f"{planted.name}: {text.count(before)} places in {file}")
        texts[file] = text.replace(before, after)
    return texts


def check_true(checker: str) -> str:
    """Run a checker on the program as it is; what it finds wrong, "" if nothing."""
    returncode, why = _outcome(checker, ROOT, Path(sys.executable))
    return why if returncode else ""


def _copy(tree: Path) -> None:
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
            shutil.copytree(source, tree / name, ignore=ignored, symlinks=True)
        else:
            tree.mkdir(exist_ok=True, parents=True)
            shutil.copy(source, tree / name)


def environment(folder: Path, tree: Path) -> Path:
    """An environment like the one this runs in, but with the program of that tree; its Python."""
    packages = Path(sysconfig.get_paths()["purelib"])
    target = folder / packages.relative_to(sys.prefix)
    target.mkdir(parents=True)
    for entry in packages.iterdir():
        if not entry.name.startswith(("gangline", "_editable_impl_gangline", "__pycache__")):
            (target / entry.name).symlink_to(entry)
    (target / "gangline.pth").write_text(f"{tree / 'src'}\n")
    (folder / "bin").mkdir()
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder / "pyvenv.cfg")
    for name in ("python", "python3"):
        (folder / "bin" / name).symlink_to(os.path.realpath(sys.executable))
    program = folder / "bin" / "gangline"
    program.write_text(
        f"#!{folder / 'bin' / 'python'}\nfrom gangline.cli.main import main\nmain()\n"
    )
    program.chmod(0o755)
    return folder / "bin" / "python"


def _outcome(checker: str, tree: Path, python: Path) -> tuple[int, str]:
    """The exit code of a checker, and the first line that says what it found."""
    pytest = ["-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
    argv = [str(python), *(pytest if checker.startswith("tests/") else []), *checker.split()]
    try:
        done = subprocess.run(
            argv,
            cwd=tree,
            env={**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, "BROKEN: it did not come to an end"
    told = [line for line in done.stdout.splitlines() if line.startswith(_TELLING)]
    return done.returncode, told[0] if told else (done.stderr or done.stdout)[-500:]
