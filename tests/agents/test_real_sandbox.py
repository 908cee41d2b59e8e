"""What Codex's sandbox forbids in a worktree, and what is seen of it."""

import json

from agent_project import AgentProject
from test_real_recovery import attempts, begin, end


def sandboxed(project: AgentProject, sandbox: str) -> None:
    project.use("codex")
    argv = ["codex", "exec", "--json", "-s", sandbox, "-c", "allow_login_shell=false", "-"]
    project.settings(f"[agents.codex]\nstart = {json.dumps(argv)}\n")
    project.commit()


def test_patch_that_is_not_allowed_is_a_failure_though_the_exit_code_is_0(project: AgentProject):
    sandboxed(project, "read-only")
    end(project, begin(project, "ok file=one.txt text=One.", agent="codex"), code=1)
    (only,) = attempts(project)
    assert (only["outcome"], only["exitCode"]) == ("failed", 0)
    assert "permission was denied: patch rejected: writing is blocked" in only["reason"]
    assert project.subjects(1) == []


def test_commit_that_a_sandbox_forbids_is_known_to_the_agent_alone(project: AgentProject):
    """A known weakness (docs/CRITIQUES.md): it ends with 0, and what it prints names no denial."""
    sandboxed(project, "workspace-write")
    end(project, begin(project, "ok file=one.txt text=One.", agent="codex"))
    (only,) = attempts(project)
    assert (only["outcome"], only["exitCode"]) == ("completed", 0)
    assert "step 1 did not succeed" in project.log(1)
    assert project.subjects(1) == []
    results = [turn for turn in project.stub.work("one")[-1].request.turns if turn.kind == "result"]
    assert "index.lock" in results[-1].text, "git was not allowed to write beside the worktree"
