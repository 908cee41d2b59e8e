"""Runs a batch of issues on coding agents and resumes exactly after any crash."""

__version__ = "0.1.0"
