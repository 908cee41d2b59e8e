"""The scripted agent of the demo: reads its prompt, edits, tests and commits, as a real one does.

It stands in for a coding agent so that the demo needs no account and no network; all that it does
to the repository is real. It is copied out of the package and run by itself, so it imports only the
standard library. What must stay true: the first and last thing it does is one line in the agents'
own log, which the orchestrator knows nothing of. That log is the demo's witness.

It reads two lines of its prompt: `Merge first: BRANCH…` and `Tests: MODULE…`.
"""

import ast
import os
import re
import subprocess
import sys
import time

LOG_VARIABLE, SOLUTIONS_VARIABLE = "DEMO_LOG", "DEMO_SOLUTIONS"
PACE_VARIABLE = "DEMO_STEP_SECONDS"
TEMPLATE_SUFFIX = ".txt"


def main() -> int:
    """Do the issue; 0 if its tests pass and the work is committed."""
    issue = os.environ["GANGLINE_ISSUE"]
    record("start", issue)
    prompt = sys.stdin.read()
    title = prompt.partition("\n")[0]
    step(f"issue {issue}: {title}")
    for branch in named(prompt, "Merge first"):
        step(f"merge {branch}")
        git("merge", "--quiet", "--no-ff", "-m", f"Merge {branch}", branch)
    for path in edit(os.path.join(os.environ[SOLUTIONS_VARIABLE], issue)):
        step(f"edited {path}")
    code = run_tests(named(prompt, "Tests"))
    if code == 0:
        git("add", "--all")
        git("commit", "--quiet", "-m", title)
        step("committed")
    record("end", issue)
    return code


def record(word: str, issue: str) -> None:
    """Append a line to the agents' log in one write: `start` or `end`, the issue, the process."""
    fd = os.open(os.environ[LOG_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{word} {issue} {os.getpid()}\n".encode())
    finally:
        os.close(fd)


def step(text: str) -> None:
    """Say what is done, at a pace that can be watched; nothing waits for it."""
    print(text, flush=True)
    time.sleep(float(os.environ[PACE_VARIABLE]))


def named(prompt: str, key: str) -> list[str]:
    """The words of the prompt's line `KEY: WORD WORD…`; none without such a line."""
    found = re.search(rf"^{key}: (.+)$", prompt, re.MULTILINE)
    return found[1].split() if found else []


def git(*arguments: str) -> None:
    """A git command in the worktree; a failure ends the agent with what git said."""
    subprocess.run(["git", *arguments], check=True)


def edit(solution: str) -> list[str]:
    """Put what the agent knows into the worktree; the paths that changed.

    Args:
        solution: A folder. In a file that bears TEMPLATE_SUFFIX each function replaces the one of
            the same name; any other file is written whole.
    """
    changed = []
    for folder, _, names in os.walk(solution):
        for name in names:
            source = os.path.join(folder, name)
            path = os.path.relpath(source, solution).removesuffix(TEMPLATE_SUFFIX)
            with open(source, encoding="utf-8") as file:
                text = file.read()
            if source.endswith(TEMPLATE_SUFFIX):
                with open(path, encoding="utf-8") as file:
                    text = with_functions(file.read(), text)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            changed.append(path)
    return sorted(changed)


def with_functions(text: str, pieces: str) -> str:
    """The module's text, each function that `pieces` defines as well replaced by that one."""
    new = {node.name: ast.unparse(node) for node in functions(pieces)}
    lines = text.splitlines()
    for node in reversed(functions(text)):
        if node.name in new:
            lines[node.lineno - 1 : node.end_lineno] = new[node.name].splitlines()
    return "\n".join(lines) + "\n"


def functions(text: str) -> list[ast.FunctionDef]:
    """The functions at the top level of a module."""
    return [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]


def run_tests(modules: list[str]) -> int:
    """Run the tests that the issue names; their exit code."""
    step(f"test {' '.join(modules)}")
    return subprocess.run(
        [sys.executable, "-B", "-m", "unittest", *modules], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
