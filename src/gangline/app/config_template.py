"""The gangline.toml that `gangline init` writes: every key, its default, and why one would set it.

A setting is commented with `#` alone and prose with `# `, so that a test can switch every setting
on and see that it decodes to the defaults. It is not loaded by any other command.
"""

from gangline.app.settings import DEFAULT_PROMPT

_TEMPLATE = """\
# Settings of Gangline for this repository. Each commented key shows its default, except where an
# example is marked as one. Flags of `gangline run` win over what stands here.

[batch]
# Where the issues are: a folder of Markdown files, a plan file, or github. (example)
#from = "issues"
# The agent of issues that name none: claude, codex, or one of your own below. (example)
#agent = "claude"
# How many agents may work at the same time; each needs memory (75 to 750 MB were measured).
#max_concurrent = 4
# End an attempt after so many minutes; without it there is no limit. (example)
#attempt_minutes = 240
# Cut an attempt's log at so many megabytes, so that a runaway agent cannot fill the disk.
#log_mb = 100
# How often everything is looked at again, should a wake-up be lost.
#poll_seconds = 30
# An agent that is silent so long is shown as stalled.
#stall_minutes = 10
# Whether issues run although one they depend on has failed ("run"), or are skipped ("skip").
#on_failed_dependency = "run"
# Keep the pane of a failed attempt, so that its last words can be read.
#keep_failed_panes = true
# Keep the pane of a completed attempt as well.
#keep_completed_panes = false
# Who makes the panes: "managed", Gangline; "idle", you: agents go into the idle shells of the tmux
# session that the orchestrator runs in.
#panes = "managed"
# What an agent is told; {area}, {issue}, {title} and {body} are replaced.
@PROMPT@

[retry]
# Start an issue once more by itself when its agent died: 0 or 1, never more.
#max = 1
# Whether an agent that ended with a failure is started again too.
#on_failure = false

[stall]
# What is done with an agent that is silent for stall_minutes: "report" tells you and leaves it
# alone; "retry" ends it and starts it again (its one automatic retry), "fail" ends it.
#action = "report"

[budget]
# At this many US dollars, over all its attempts, an issue is ended and failed. (example)
#cost_usd = 5.0
# The same for tokens, read and written together. (example)
#tokens = 2_000_000
# The same for the minutes that its agents run. (example)
#minutes = 240
# Over this many US dollars of the whole batch nothing new is started. (example)
#batch_cost_usd = 50.0
# The same for tokens. (example)
#batch_tokens = 20_000_000
# The same for minutes, of all agents together. (example)
#batch_minutes = 2_400

[workspace]
# "worktree" gives each issue a git worktree (the default in a git repository); with "shared" all
# agents work in the same folder. (example)
#kind = "worktree"
# The branch or commit that worktrees start from; by default what is checked out. (example)
#base = "main"
# The branch of an issue; {area} and {issue} must both stand in it.
#branch = "gangline/{area}/issue-{issue}"
# A command run in each new worktree, such as ["npm", "ci"] or ["sh", "-c", "npm ci && make"].
#setup = []

[verify]
# A command that decides whether the work is good (not available in this version).
#command = []

[done]
# What must be true before an issue is completed (not available in this version).
#require = []

[tmux]
# A server of its own: a name as for `tmux -L`, a path as for `tmux -S`. (example)
#socket = "gangline"

# An agent of your own, or other keys for claude and codex: what is absent stays as it is.
# In start and resume {prompt} {prompt_file} {issue} {title} {attempt} {session} {worktree} {branch}
# are replaced. (example)
#[agents.mine]
# The command, one argument an element; no shell reads it.
#start = ["my-agent", "--task", "{prompt_file}"]
# The command that continues a session after a crash; without it the agent is started afresh.
#resume = ["my-agent", "--continue", "{session}"]
# "interactive" runs it with its own terminal interface; you can attach and type.
#mode = "headless"
# The command for that.
#interactive = ["my-agent", "{prompt}"]
# And the one that continues a session there.
#interactive_resume = ["my-agent", "--continue", "{session}", "{prompt}"]
# What understands its output: session, usage, limits, failures (docs/agents.md).
#reader = "plain"
# Agents of one account are held back together when its usage limit is hit.
#account = "my-account"
# How the prompt gets there: "stdin", "argv" (an argument, at most 100 KB) or "file".
#prompt = "file"
# Variables to set. An agent gets a clean environment: HOME, PATH, locale, proxies and the like.
#env = { MY_AGENT_COLOR = "never" }
# More variables of yours that it may see, by name or beginning; keys belong here, not into env.
#pass = ["MY_AGENT_KEY", "AWS_*"]
"""


def template() -> str:
    """The text of a new gangline.toml; decoded as it is, it changes nothing."""
    lines = f'prompt = """\n{DEFAULT_PROMPT}"""'.splitlines()
    return _TEMPLATE.replace("@PROMPT@", "\n".join(f"#{line}" for line in lines))
