"""The command line: one file a command, with no logic of its own."""

from hexavit.cli._main import COMMANDS, main

__all__ = ["COMMANDS", "main"]
