"""The `residua` command: the same commands as the program that cargo installs, but for the data of `demo`."""

from __future__ import annotations

import sys

from ._native import command


def main() -> int:
    """Runs the command line of this process; returns its exit code."""
    return command(["residua", *sys.argv[1:]])
