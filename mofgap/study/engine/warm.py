"""A process with torch and its kin imported, that forks for each job: starting one takes no seconds.

Only where jobs run on this machine, and where the system can wait for processes by descriptor (Linux).
Jobs end with it, and it ends with the run that started it, even where that one was killed.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

MODULES = (
    "pyarrow.parquet",
    "mofgap.__main__",
    "mofgap.study.engine.comparison",
    "mofgap.study.methods.training",
    "mofgap.study.methods.prediction",
)
MAX_REQUEST_BYTES = 2**16


@contextmanager
def warm_process(
    modules: tuple[str, ...] = MODULES, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Keep a warm process; yields the path of its socket, empty where there can be none.

    Args:
        modules: What it imports.
        environment: Of the process and its jobs; that of this process by default.
    """
    if not hasattr(os, "pidfd_open"):
        yield ""
        return
    with TemporaryDirectory(prefix="mofgap-") as folder:
        path = str(Path(folder) / "warm")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(128)
        command = [sys.executable, "-m", __spec__.name, str(listener.fileno()), *modules]
        process = Popen(command, stdin=PIPE, stdout=DEVNULL, pass_fds=[listener.fileno()], env=environment)
        listener.close()
        try:
            yield path
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.terminate()  # it may still be importing, and then listens to nothing else
            process.wait()


@dataclass
class _Job:
    """A forked process, and who waits for it."""

    pid: int
    connection: socket.socket


class Warm:
    """The warm process.

    Args:
        listener: Where jobs are asked for.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.jobs: dict[int, _Job] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ)

    def serve(self) -> None:
        """Fork for each request, until standard input ends; then end, and the jobs too."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    self._begin()
                elif key.fd in self.jobs:
                    self._end(key.fd)
                elif isinstance(key.fileobj, socket.socket):
                    self._gone(key.fileobj)
                else:
                    self.stop()

    def stop(self) -> NoReturn:
        """End, and the jobs with it."""
        for job in self.jobs.values():
            os.kill(job.pid, signal.SIGKILL)
        os._exit(0)

    def _begin(self) -> None:
        connection, _ = self.listener.accept()
        content, outputs, _, _ = socket.recv_fds(connection, MAX_REQUEST_BYTES, 2)
        if not content:
            connection.close()
            return
        pid = os.fork()
        if pid == 0:
            self.selector.close()
            self.listener.close()
            connection.close()
            _work(json.loads(content), outputs)
        for output in outputs:
            os.close(output)
        watch = os.pidfd_open(pid)
        self.jobs[watch] = _Job(pid, connection)
        self.selector.register(watch, selectors.EVENT_READ)
        self.selector.register(connection, selectors.EVENT_READ)

    def _end(self, watch: int) -> None:
        """A job has ended: say how."""
        job = self.jobs.pop(watch)
        self.selector.unregister(watch)
        os.close(watch)
        _, status = os.waitpid(job.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if job.connection.fileno() >= 0:
            self.selector.unregister(job.connection)
            job.connection.send(str(code if code >= 0 else 128 - code).encode())
            job.connection.close()

    def _gone(self, connection: socket.socket) -> None:
        """Whoever waited was killed: the job ends too."""
        self.selector.unregister(connection)
        connection.close()
        for job in self.jobs.values():
            if job.connection is connection:
                os.kill(job.pid, signal.SIGTERM)


def _work(request: dict[str, Any], outputs: list[int]) -> None:
    """In the forked process: run the command, and never return."""
    code = 1
    try:
        for source, target in zip(outputs, (1, 2), strict=True):
            os.dup2(source, target)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 (it lives as long as the process)
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(request["directory"])
        sys.argv = ["mofgap", *request["arguments"]]
        runpy.run_module("mofgap", run_name="__main__")  # as launch does without a warm process
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _first_use() -> None:
    """Let numba compile once: what it loads then would cost each job some tenths of a second.

    Nothing that starts threads may be used here, since they do not survive a fork: no autograd, no pyarrow.
    """
    import numba

    numba.njit(lambda x: x + 1)(1.0)


def main(arguments: list[str]) -> None:
    """Import, then serve."""
    descriptor, *modules = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run to handle
    for module in modules:
        importlib.import_module(module)
    if "mofgap.study.methods.training" in modules:
        _first_use()
    warm = Warm(socket.socket(fileno=int(descriptor)))
    signal.signal(signal.SIGTERM, lambda number, frame: warm.stop())
    warm.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
