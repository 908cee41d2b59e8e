"""What a call of each shell shim costs, beside the start of `gangline --version`, pair by pair.

The batch lives: an agent at work in an idle pane, an issue that waits for it. The calls are made as
the recovery document makes them, in bash with the shims sourced; the table goes to bench/SHIMS.md.
"""

import datetime as dt
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1.5
ROUNDS = 15
AGENT = '[agents.demo]\nstart = ["sh", "-c", "sleep 600", "{issue}"]\n'
CALLS = {
    "orch_state_path": "orch_state_path work",
    "orch_state_read": "orch_state_read work",
    "orch_state_update": """orch_state_update work '.note = (.note // 0) + 1'""",
    "orch_status_set": "orch_status_set work 3 failed; orch_status_set work 3 pending",
    "orch_find_idle_panes": "orch_find_idle_panes %0",
    "orch_pane_alive": "orch_pane_alive %1",
    "orch_dispatch": "orch_dispatch 1 %0 work demo",  # refused: its own pane, and it runs already
    "orch_record_dispatch": "orch_record_dispatch work 1 %1",
    "orch_check_completion": "orch_check_completion 1 work",
    "orch_update_last_activity": "orch_update_last_activity work 1",
    "orch_detect_stall": "orch_detect_stall work 1",
    "orch_unblock": "orch_unblock work 1",
    "orch_release_pane": "orch_release_pane work 1",
    "orch_poll_cycle": "orch_poll_cycle work work demo %0",
    "orch_print_summary": "orch_print_summary work work",
    "orch_verify_startup": "orch_verify_startup 1 work",
    "parse-dependencies.sh --check-cycles": """scripts/parse-dependencies.sh --check-cycles \
"[1,2,3]" '{"3":[1,2]}'""",
}
# What is timed is the shell's own clock around the call: bash's start is no part of it.
SCRIPT = """. scripts/orchestrate-helpers.sh
gangline --version >/dev/null
one() {{ local a=$EPOCHREALTIME; "$@" >/dev/null 2>&1; local b=$EPOCHREALTIME
  echo $(( ${{b/./}} - ${{a/./}} )); }}
call() {{ {call}
}}
for _ in $(seq {rounds}); do echo "$(one gangline --version) $(one call)"; done
"""


def main() -> int:
    """Measure every shim; 0 if all are within the limit."""
    with tempfile.TemporaryDirectory(prefix="shims-") as room:
        socket = str(Path(room) / "s")
        tmux = ["tmux", "-S", socket, "-f", "/dev/null"]
        try:
            environment = prepare(Path(room), tmux)
            rows = [measure(name, call, Path(room), environment) for name, call in CALLS.items()]
            subprocess.run(
                ["gangline", "stop", "work", "--kill"], cwd=room, env=environment, check=True
            )
        finally:
            subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)
    text = report(rows)
    (ROOT / "bench" / "SHIMS.md").write_text(text)
    print(text)
    return 0 if all(ratio <= LIMIT for *_, ratio in rows) else 1


def prepare(room: Path, tmux: list[str]) -> dict[str, str]:
    """A repository with a living batch; the environment of a shell in its first pane."""
    home = room / "home"
    home.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8"}

    def run(*argv: str) -> str:
        done = subprocess.run(
            argv, cwd=room, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    run("git", "init", "-q")
    run("git", "config", "user.name", "bench")
    run("git", "config", "user.email", "bench@example.invalid")
    (room / "gangline.toml").write_text(f'{AGENT}[tmux]\nsocket = "{room / "s"}"\n')
    run("git", "add", "gangline.toml")
    run("git", "commit", "-qm", "begin")
    (room / ".git" / "info" / "exclude").write_text("home\ns\nscripts\n")
    run(*tmux, "new-session", "-d", "-x", "120", "-y", "40", "bash")
    run(*tmux, "split-window", "bash")
    server = run(*tmux, "display-message", "-p", "#{pid}")
    environment |= {"TMUX": f"{room / 's'},{server},0", "TMUX_PANE": "%0"}
    run("gangline", "shell", "install")
    run("gangline", "shell", "init", "work", "[1,2,3]", '{"2":[1]}', "demo", "%0")
    run("gangline", "hold", "work", "3")
    while '"dispatched":{}' in run("gangline", "shell", "state-read", "work"):
        run("gangline", "shell", "poll-cycle", "work", "work", "demo", "%0")
    run("gangline", "shell", "verify-startup", "1", "work")
    run(*tmux, "split-window", "bash")  # an idle one, for what looks for some
    return environment


def measure(
    name: str, call: str, room: Path, environment: dict[str, str]
) -> tuple[str, float, float, float]:
    """Name, median of the version's start and of the call in ms, median of their ratios."""
    script = SCRIPT.format(call=call, rounds=ROUNDS)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=room,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    pairs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    calls = call.count(";") + 1  # some are made in pairs, so that the batch stays as it is
    version = statistics.median(pair[0] for pair in pairs) / 1e3
    spent = statistics.median(pair[1] / calls for pair in pairs) / 1e3
    return name, version, spent, statistics.median(pair[1] / calls / pair[0] for pair in pairs)


def report(rows: list[tuple[str, float, float, float]]) -> str:
    """The table."""
    cores = len(os.sched_getaffinity(0))
    date = dt.datetime.now(dt.UTC).date()
    lines = [
        "# What a shell shim costs",
        "",
        f"`python bench/shims.py`, {date}, {cores} cores: medians of {ROUNDS} pairs, in ms, beside",
        f"`gangline --version` in the same run. Limit: {LIMIT} times. The dispatch is one that is",
        "refused: one that is made costs what git takes for the worktree, and what the pane takes.",
        "",
        "| shim | version | call | ratio | met |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, version, spent, ratio in rows:
        met = "yes" if ratio <= LIMIT else "**no**"
        lines.append(f"| `{name}` | {version:.1f} | {spent:.1f} | {ratio:.2f} | {met} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
