"""One race of two orchestrators for one area; the gauntlet runs many, CI some."""

import os
import signal
import sys
from pathlib import Path

from hostile_stage import HostileCrew
from project import Started

_RACE = Path(__file__).parent / "race.py"


def race_once(crew: HostileCrew, number: int, *, count: int = 2) -> None:
    """So many begin a batch at one instant; the winner is killed; so many resume it at one instant.

    Raises:
        AssertionError: not exactly one won, or an agent was started twice.
    """
    area = f"race-{number}"
    for path in crew.room.glob("let-*"):
        path.unlink()
    crew.ledger_path.write_text("")
    crew.plan_issues(1, 2)
    winner, race = _race(crew, area, count, 0)
    crew.wait_for_starts(2)
    os.kill(winner, signal.SIGKILL)
    crew.wait_for_end(race)
    _, race = _race(crew, area, count, 1)
    crew.let(1, 2)
    crew.wait_for_end(race)
    codes = sorted(map(int, race.text().split()[count:]))
    assert codes == [0] + [3] * (count - 1), race.text()
    assert crew.executions() == [(1, 0), (2, 0)]
    crew.judge(area=area)


def _race(crew: HostileCrew, area: str, count: int, number: int) -> tuple[int, Started]:
    """Let them race; the process of the one that has won, and the race."""
    said = crew.room / f"{area}-{number}"
    race = crew.start_program(
        [sys.executable, str(_RACE), str(count), str(said), "run", area, "--from", "plan.json"]
    )
    losers = count - 1
    crew.wait_for(lambda: len(race.text().split()) >= count, "they have been let go")
    children = [int(word) for word in race.text().split()[:count]]

    def living() -> list[int]:
        return [pid for pid in children if crew.lives(pid)]

    crew.wait_for(lambda: len(living()) == count - losers, "all but one have given up")
    (winner,) = living()
    index = children.index(winner)
    for loser in range(count):
        if loser != index:
            text = Path(f"{said}-{loser}").read_text()
            assert f"busy error: another orchestrator has area {area}" in text, text
    return winner, race
