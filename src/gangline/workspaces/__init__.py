"""Where agents work: git worktrees, or one shared folder."""
