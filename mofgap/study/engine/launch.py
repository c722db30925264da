"""Runs ``mofgap ...``: in the warm process where one listens, else in a process of its own.

Started for every job of a run, so it imports next to nothing.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

SOCKET = "MOFGAP_WARM"
"""Environment variable with the path of the warm process's socket."""


def main(arguments: list[str]) -> int:
    """Run a command of mofgap; returns its exit code, unless this process becomes it."""
    listener = os.environ.get(SOCKET)
    if listener:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.connect(listener)
            except OSError:
                return _become(arguments)
            request = json.dumps({"arguments": arguments, "directory": str(Path.cwd())}).encode()
            socket.send_fds(connection, [request], [1, 2])
            answer = connection.recv(16)  # nothing, once the warm process is gone and its jobs with it
            return int(answer) if answer else 1
    return _become(arguments)


def _become(arguments: list[str]) -> int:
    os.execv(sys.executable, [sys.executable, "-m", "mofgap", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
