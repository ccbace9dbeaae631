"""The command line: one file per command; nothing heavy is loaded before a command needs it."""

from broca.cli.app import app, run_cli

__all__ = ["app", "run_cli"]
