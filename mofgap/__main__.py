"""The ``mofgap`` program: the commands of the product, and those of the study."""

from __future__ import annotations

import os
import sys

from mofgap.cli.main import app
from mofgap.study.cli import add_commands
from mofgap.threads import wait_passively

wait_passively()
# Under some schedulers the program starts with closed streams, of which Python makes None.
sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115
sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115
# Where colorama is installed, numba would end the output on a terminal with an escape sequence.
os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
add_commands(app)

if __name__ == "__main__":
    app()
