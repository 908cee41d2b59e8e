"""`gangline recover AREA --plan`: what the next run would do with each issue, and why."""

import msgspec

from gangline.app.recovery_plan import IssuePlan, RecoveryPlan, make_recovery_plan
from gangline.cli.failing import print_error
from gangline.cli.lines import say, say_json
from gangline.cli.table import folded, prepare_output, terminal_width
from gangline.core.text import one_line
from gangline.errors import EXIT_OK, StateError

_TITLE_LENGTH = 60


def show_plan(area: str, *, as_json: bool) -> int:
    """Print the plan; nothing is changed.

    Args:
        area: The area.
        as_json: `app.recovery_plan.RecoveryPlan` as JSON.

    Returns:
        0; 4 if the state needs a person first, after all that can be known was printed.

    Raises:
        UsageError: there is no such batch.
    """
    prepare_output()
    plan = make_recovery_plan(area)
    if as_json:
        say_json(msgspec.to_builtins(plan))
    else:
        say(plan_text(plan, terminal_width()))
        for problem in plan.problems:
            print_error(
                StateError(
                    problem.message, place=problem.place, causes=problem.causes, hint=problem.hint
                )
            )
    return StateError.exit_code if plan.problems else EXIT_OK


def plan_text(plan: RecoveryPlan, width: int) -> str:
    """The plan for people: a head, the notes, then a block an issue.

    Args:
        plan: What is shown.
        width: Of the terminal, at which long lines are folded; 0: none is.
    """
    counts = ", ".join(f"{n} {status}" for status, n in plan.counts.items() if n)
    batch = f"batch {plan.batch_id}: {counts}" if plan.batch_id else "nothing of it can be read"
    lines = folded(f"{plan.area}, {batch}", width, 2)
    for note in plan.notes:
        lines += folded(f"note: {one_line(note)}", width, 6)
    for issue in plan.issues:
        lines += ["", *_block(issue, width)]
    if plan.batch_id and not plan.issues and not plan.over:
        lines.append("no issue is open")
    return "\n".join(lines)


def _block(issue: IssuePlan, width: int) -> list[str]:
    title = one_line(issue.title, _TITLE_LENGTH)
    state = issue.status + (f", retry count {issue.retry_count}" if issue.retry_count else "")
    verdict = f" -> {issue.verdict}" if issue.verdict else ""
    rule = f"{issue.rule.text} ({issue.rule.source})"
    lines = [f"#{issue.id} {title}".rstrip(), f"  {state}{verdict}"]
    for sentence in issue.evidence:
        lines += folded(f"    {one_line(sentence)}", width, 6)
    for name, text in (("rule:", rule), ("run: ", issue.action)):
        lines += folded(f"  {name} {one_line(text)}", width, 8)
    return lines
