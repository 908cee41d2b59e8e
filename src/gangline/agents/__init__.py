"""Coding agents as data: how each is started, and what it inherits."""
