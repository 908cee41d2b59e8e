"""The entry of the gauntlet, `make gauntlet`: plays a copy of the package.

So work on the source beside it cannot change what is judged while it is judged; and the stage of
the acceptance tests and the promises of the proofs are found without being copied.
"""

import compileall
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Copy the package, run the gauntlet on the copy; its exit code."""
    with tempfile.TemporaryDirectory(prefix="gauntlet-package-") as room:
        shutil.copytree(ROOT / "src" / "gangline", Path(room, "src", "gangline"))
        shutil.copytree(ROOT / "scripts", Path(room, "scripts"))
        compileall.compile_dir(Path(room, "src"), quiet=1)  # else the first plays would do it
        ours = [ROOT / "bench", ROOT / "tests" / "acceptance", ROOT / "tests" / "prove"]
        path = os.pathsep.join(map(str, [Path(room, "src"), *ours]))
        argv = [sys.executable, "-m", "gauntlet.run", *sys.argv[1:]]
        return os.spawnve(os.P_WAIT, sys.executable, argv, {**os.environ, "PYTHONPATH": path})


if __name__ == "__main__":
    sys.exit(main())
