"""The peers' virtual environment: apart from Gangline's, made from a lock with hashes."""

import hashlib
import subprocess
import sys

from peers.driver import ROOT, VENV, python

LOCK = ROOT / "bench" / "requirements-peers.lock"
STAMP = VENV / ".installed"


def make_environment() -> str | None:
    """Make or renew it where the lock has changed; None, or why it could not be done."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == digest:
        return None
    print("making the peers' virtual environment ...", file=sys.stderr)
    pip = [python(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
        subprocess.run([*pip, "--require-hashes", "-r", str(LOCK)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"the peers' packages could not be installed ({type(error).__name__})"
    STAMP.write_text(digest)
    return None
