"""The ``mofgap`` program: the commands of the product, and those of the study."""

from __future__ import annotations

from mofgap.cli.main import app
from mofgap.study.cli import add_commands
from mofgap.threads import wait_passively

wait_passively()
add_commands(app)

if __name__ == "__main__":
    app()
