"""`gangline shell VERB`: what the shims of the specification's shell call (scripts/*.sh).

A script calls these verbs in loops, so nothing that takes time is imported before the verb is
known, click least of all. Here arguments are counted; what they mean is decided by the verb.
"""

import sys

from gangline.cli.table import prepare_output
from gangline.errors import EXIT_OK, UsageError

TYPE_CHECKING = False  # importing `typing` costs 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable

_INSTALL = "gangline.app.shell_install"
_SOURCES = "gangline.app.shell_sources"
_VERBS = "gangline.cli.shell_verbs"

# verb: module of its function (same name, `_` for `-`), fewest and most arguments, usage, meaning
VERBS: "dict[str, tuple[str, int, int, str, str]]" = {
    "install": (_INSTALL, 0, 1, "[--print]", "Write the shims into this repository's scripts/."),
    "init": (
        _VERBS,
        2,
        5,
        "AREA ISSUES_JSON [DAG_JSON] [AGENT] [ORCH_PANE]",
        "Begin a batch.",
    ),
    "state-path": (_VERBS, 1, 1, "AREA", "Print the path of the state file."),
    "state-read": (_VERBS, 1, 1, "AREA", "Print the state as JSON."),
    "state-update": (_VERBS, 2, 2, "AREA FILTER", "Change the state by a jq filter."),
    "status-set": (_VERBS, 3, 3, "AREA ISSUE STATUS", "Record an issue's status."),
    "find-idle-panes": (_VERBS, 0, 1, "[ORCH_PANE]", "Print the panes an issue may be sent to."),
    "pane-alive": (_VERBS, 1, 1, "PANE", "Exit 0 where the pane lives, else 1."),
    "dispatch": (_VERBS, 3, 4, "ISSUE PANE AREA_DIR [AGENT]", "Send an issue to a pane."),
    "record-dispatch": (_VERBS, 3, 3, "AREA ISSUE PANE", "Record that it was sent."),
    "check-completion": (_VERBS, 2, 2, "ISSUE AREA_DIR", "Print how an issue stands."),
    "update-last-activity": (_VERBS, 2, 2, "AREA ISSUE", "Record that its agent did something."),
    "detect-stall": (_VERBS, 2, 3, "AREA ISSUE [MINUTES]", "Look whether its agent is silent."),
    "unblock": (_VERBS, 2, 2, "AREA ISSUE", "Free what waited for the issue."),
    "release-pane": (_VERBS, 1, 2, "PANE | AREA ISSUE", "Give a pane back."),
    "poll-cycle": (
        _VERBS,
        2,
        4,
        "AREA AREA_DIR [AGENT] [ORCH_PANE]",
        "Look, record, unblock and dispatch, once.",
    ),
    "print-summary": (_VERBS, 1, 2, "AREA [AREA_DIR]", "Print how the batch stands."),
    "verify-startup": (_VERBS, 2, 2, "ISSUE AREA_DIR", "Look whether its agent has started."),
    "dependencies": (
        _SOURCES,
        1,
        2,
        "ISSUE [DIR]",
        "Print what an issue depends on, an id a line.",
    ),
    "check-cycles": (_SOURCES, 2, 2, "ISSUES_JSON DAG_JSON", "Exit 1 and name a cycle, if any."),
}


def run_shell(argv: list[str]) -> int:
    """Run a verb; its exit code.

    Args:
        argv: What follows `gangline shell` on the command line.

    Raises:
        UsageError: no such verb, or not the arguments that it takes.
        GanglineError: what the verb itself refuses.
    """
    prepare_output()
    if not argv or argv[0] in ("-h", "--help"):
        _print_help()
        return EXIT_OK
    verb, arguments = argv[0], argv[1:]
    if verb not in VERBS:
        raise _unknown(verb)
    if arguments in (["-h"], ["--help"]):
        print(f"Usage: {_usage(verb)}\n\n{VERBS[verb][4]}")
        return EXIT_OK
    _check_count(verb, len(arguments))
    return _function(verb)(arguments)


def _function(verb: str) -> "Callable[[list[str]], int]":
    module = VERBS[verb][0]
    __import__(module)  # importlib is not loaded yet, and takes longer
    function: Callable[[list[str]], int] = getattr(sys.modules[module], verb.replace("-", "_"))
    return function


def _usage(verb: str) -> str:
    return f"gangline shell {verb} {VERBS[verb][3]}"


def _check_count(verb: str, count: int) -> None:
    _, least, most, _, _ = VERBS[verb]
    if least <= count <= most:
        return
    takes = str(least) if least == most else f"{least} to {most}"
    raise UsageError(
        f"{verb} takes {takes} argument{'s' if takes != '1' else ''}, not {count}",
        place=f"gangline shell {verb}",
        hint=f"usage: {_usage(verb)}",
    )


def _unknown(verb: str) -> UsageError:
    from difflib import get_close_matches  # noqa: PLC0415 - for a message only

    near = get_close_matches(verb[:100], VERBS, n=1)
    return UsageError(
        f"there is no verb {verb[:100]!r}",
        place="gangline shell",
        hint=f"did you mean {near[0]!r}?" if near else "gangline shell --help lists them",
    )


def _print_help() -> None:
    print(
        "Usage: gangline shell VERB ARGUMENTS\n\n"
        "One step of an orchestrator written as a shell script. The functions orch_* of\n"
        "scripts/orchestrate-helpers.sh call these verbs, orch_state_read calls state-read;\n"
        "`gangline shell install` writes them into a repository.\n"
    )
    for verb, (_, _, _, usage, meaning) in VERBS.items():
        print(f"  {verb} {usage}\n      {meaning}")
