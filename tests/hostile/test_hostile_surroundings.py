"""A whole life of a batch, with a death and a kill -9 in it, in surroundings that are odd.

Proven elsewhere: a plain run in odd paths and the text of odd titles (tests/acceptance/
test_bad_text.py), git in odd folders (tests/contract/test_worktrees.py). Here all is resumed.
"""

import os
import signal
from pathlib import Path

import pytest
from hostile_stage import HostileCrew

NAMES = {
    "spaces and quotes": 'it\'s "odd"  `id` $(touch pwned) ${HOME}',
    "tmux and shell": "#{pane_id} #(touch pwned) ; kill-server %1 *?[a-z] \\ ~",
    "newline and tab": "one\ntwo\tthree\r",
    "non-ASCII": "pröjekt 프로젝트 \u202egnal\u202c 🛷",
    "no UTF-8": os.fsdecode(b"l\xe4tin-1 \xff"),
    "a dash": "--help",
}
UTF_8 = ("a dash", "spaces and quotes")  # the others in C: name and locale do not meet


@pytest.mark.parametrize("name", NAMES)
def test_batch_in_an_odd_folder_and_a_poor_locale_is_resumed_exactly(
    tmp_path: Path, name: str
) -> None:
    locale, name = "C.UTF-8" if name in UTF_8 else "C", NAMES[name]
    crew = HostileCrew(tmp_path, name=name, worktrees=True)
    try:
        crew.environment |= {"LC_ALL": locale, "LANG": locale}
        issues = [crew.issue(1), crew.issue(2, after=[1])]
        for issue in issues:
            issue["title"] = f"Ünïcødé 한국 {name.encode('utf-8', 'replace').decode()}"
        orchestrator = crew.begin(issues, 2)
        crew.wait_for_starts(1)
        crew.pane(1)
        crew.kill_orchestrator(orchestrator)
        os.kill(crew.agent_pid(1), signal.SIGKILL)
        resumed = crew.resume()
        crew.wait_for_starts(2)
        crew.let(1, 2)
        assert crew.wait_for_end(resumed) == 0, resumed.text()
        assert crew.executions() == [(1, 0), (1, 1), (2, 0)]
        crew.judge()
        for command in ("status", "history", "recover"):
            more = ["--plan"] if command == "recover" else []
            assert "Traceback" not in crew.run(command, "work", *more).stderr
        assert crew.run("run", "work", check=0).stderr == ""
        assert not [path for path in tmp_path.rglob("*") if path.name in ("pwned", "ran-a-format")]
    finally:
        crew.close()
