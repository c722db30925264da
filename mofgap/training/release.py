"""Seal the models of a clone before a release: ``python -m mofgap.training.release``.

A file of a shipped model that was changed on purpose, its calibration say, has another sha256. This writes
the hashes in every folder of ``models/`` anew, and the digests of all into the package.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mofgap.gap.folder import seal
from mofgap.shipped import CONFIG, DESCRIPTION, DIGESTS, shipped_folder
from mofgap.training.encoder_folder import seal_encoder
from mofgap.whole_file import write_json


def release(models: Path, digests: Path) -> dict[str, str]:
    """Seal every model and encoder of a folder, and write down their digests.

    Args:
        models: Holds a folder for each model.
        digests: The file of digests by name.

    Returns:
        The digests by name.

    Raises:
        ModelError: If a folder of ``models`` holds a model or encoder that cannot be read.
    """
    found = {path.parent.name: seal(path.parent) for path in models.glob(f"*/{CONFIG}")}
    found |= {path.parent.name: seal_encoder(path.parent) for path in models.glob(f"*/{DESCRIPTION}")}
    found = dict(sorted(found.items()))
    write_json(digests, found, indent=2)
    return found


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    release(shipped_folder("models"), DIGESTS)
