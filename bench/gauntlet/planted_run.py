"""Plant every bug, run the proofs that have to find it, write bench/PLANTED.md: `make planted`.

    python -m gauntlet.planted_run              all of them, and each proof once on the true program
    python -m gauntlet.planted_run --only pid   those whose name has this text; nothing is written

Exit code 1 if a bug was not found, or a proof finds one where there is none.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gauntlet.mutations import MUTATIONS, PROOFS
from gauntlet.planted import ROOT, Caught, Planted, check_true, run

REPORT = ROOT / "bench" / "PLANTED.md"
_WORDS_MAX = 110
_HEAD = """# Planted bugs: what finds them

`make planted` writes this. Each is a mistake that other orchestrators really made, or nearly we,
put into a copy of the program as changed source, one at a time (bench/gauntlet/mutations.py);
then the proofs that have to find it run on the copy. Each of these proofs was also run on the true
program, and found nothing.

| mistake | in | proof | found | as |
|---|---|---|---|---|
"""


def main() -> int:
    """Run the table; see the module."""
    parser = argparse.ArgumentParser(prog="planted", description=__doc__)
    parser.add_argument("--only", default="", help="mistakes whose name has this text")
    chosen = parser.parse_args()
    table = [planted for planted in MUTATIONS if chosen.only in planted.name]
    begun = time.monotonic()
    results, wrong = [], []
    for planted in table:
        for caught in _in_a_room(planted):
            results.append(caught)
            print(_row(caught), flush=True)
            wrong += [] if caught.caught else [planted.name]
    for checker in dict.fromkeys(c for planted in table for c in planted.caught_by):
        found = check_true(checker)
        print(f"the true program, {_proof(checker)}: {found or 'nothing is found'}", flush=True)
        wrong += [f"the true program: {found}"] if found else []
    minutes = (time.monotonic() - begun) / 60
    print(f"{len(table)} planted, {len(wrong)} wrong, {minutes:.0f} minutes: {wrong}")
    if not chosen.only:
        _write(results, minutes, wrong)
    return 1 if wrong else 0


def _in_a_room(planted: Planted) -> list[Caught]:
    with tempfile.TemporaryDirectory(prefix="planted-") as room:
        return run(planted, Path(room))


def _proof(checker: str) -> str:
    return next(name for start, name in PROOFS if checker.startswith(start))


def _row(caught: Caught) -> str:
    why = re.sub(r"^(FAILED|BROKEN: )", "", caught.why.partition("\n")[0]).strip()
    why = why.replace("|", "/").replace("tests/prove/", "").replace("tests/hostile/", "")
    cells = (
        caught.planted.name,
        f"`{caught.planted.file}`",
        _proof(caught.checker),
        "yes" if caught.caught else "**no**",
        why[:_WORDS_MAX],
    )
    return f"| {' | '.join(cells)} |"


def _write(results: Sequence[Caught], minutes: float, wrong: Sequence[str]) -> None:
    found = {caught.planted.name for caught in results if caught.caught}
    end = f"\n{len(found)} of {len(MUTATIONS)} are found; {minutes:.0f} minutes.\n"
    end += "".join(f"\n- not as it should be: {each}\n" for each in wrong)
    REPORT.write_text(_HEAD + "\n".join(map(_row, results)) + "\n" + end)


if __name__ == "__main__":
    sys.exit(main())
