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
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
_COPIED = ("src", "tests", "bench", "scripts", "pyproject.toml", "README.md", "LICENSE")
_SECONDS_MAX = 300


class Planted(NamedTuple):
    """One planted bug.

    Attributes:
        name: The mistake, in words.
        file: Below src/gangline.
        before: Text that occurs once in it.
        after: What is put in its place.
        caught_by: Pytest arguments; each alone has to catch it.
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
    tree = room / "tree"
    _copy(tree)
    for file, before, after in ((planted.file, planted.before, planted.after), *planted.also):
        path = tree / "src" / "gangline" / file
        text = path.read_text()
        if text.count(before) != 1:
            raise ValueError(f"{planted.name}: {text.count(before)} places in {file}")
        path.write_text(text.replace(before, after))
    python = environment(room / "venv", tree)
    return [_check(planted, checker, tree, python) for checker in planted.caught_by]


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


def _check(planted: Planted, checker: str, tree: Path, python: Path) -> Caught:
    argv = [str(python), "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *checker.split()]
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    try:
        done = subprocess.run(
            argv,
            cwd=tree,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Caught(planted, checker, caught=True, why="did not come to an end")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    # 1: a test failed. Anything else (no such test, a broken copy) catches nothing.
    return Caught(planted, checker, done.returncode == 1, failed[0] if failed else "passed")


def run_all(table: Iterable[Planted], room: Path) -> list[Caught]:
    """Every planted bug, one after another."""
    results = []
    for number, planted in enumerate(table):
        place = room / f"planted-{number}"
        results += run(planted, place)
        shutil.rmtree(place, ignore_errors=True)
    return results
