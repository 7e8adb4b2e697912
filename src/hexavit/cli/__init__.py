"""The command line: one module per command. A command parses arguments, calls a package below, and prints."""

from hexavit.cli._main import COMMANDS, main

__all__ = ["COMMANDS", "main"]
