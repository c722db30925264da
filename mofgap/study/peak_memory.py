"""The peak memory of a process and its children."""

from __future__ import annotations

import re
import resource
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_memory_mb() -> float:
    """The most resident memory of this process so far, or of a child that has ended, MB."""
    children_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(_own_kb(), children_kb) / 2**10


def _own_kb() -> int:
    # Linux hands on what getrusage says of a process to those that it starts.
    try:
        found = re.search(r"^VmHWM:\s*(\d+)", STATUS.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
