"""Writes quickstart/atoms.parquet: small structures with GFN1-xTB values of their atoms, by tblite.

    pip install tblite
    OMP_NUM_THREADS=1 python data/make_atoms.py

The values are those of a single point at the Gamma point, as the gaps of the quickstart set are. The table
shows how a pretraining runs: an encoder that learnt from so few structures is of no use for gaps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from make_quickstart import single_point
from numpy.typing import NDArray

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import table_crystals
from mofgap.datasets.checksum import SUMS, write_sums
from mofgap.training.atoms import XTB_TARGETS
from mofgap.training.labels import read_labels
from mofgap.whole_file import sha256_of

HERE = Path(__file__).parent / "quickstart"
N_ROWS, N_TRAIN = 24, 16


def main() -> None:
    """Write the table, and the sums of all files of the set."""
    frame = read_labels(HERE / "labels.csv", HERE / "structures.zip", "gap_ev", seed=0, needed=()).frame
    frame = frame.loc[frame.atomic_numbers.map(len).sort_values(kind="stable").index[:N_ROWS]]
    frame = frame[["structure_id", "cell_angstrom", "atomic_numbers", "frac_coords"]].reset_index(drop=True)
    frame["split"] = ["train"] * N_TRAIN + ["val"] * (N_ROWS - N_TRAIN)
    values = [of_atoms(crystal) for crystal in table_crystals(frame)]
    for name, column in zip(XTB_TARGETS, zip(*values, strict=True), strict=True):
        frame[name] = [np.round(each, 3) for each in column]
    frame.to_parquet(HERE / "atoms.parquet", index=False, compression="zstd")
    names = ("atoms.parquet", "labels.csv", "structures.zip")
    write_sums(HERE / SUMS, {name: sha256_of(HERE / name) for name in names})


def of_atoms(crystal: Crystal) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Charges in e, and sums of bond orders, (n_atoms,) each."""
    result = single_point(crystal)
    charges = np.asarray(result.get("charges"))
    orders = np.asarray(result.get("bond-orders")).reshape(len(charges), len(charges))  # of one spin channel
    np.fill_diagonal(orders, 0.0)
    return charges, orders.sum(1)


if __name__ == "__main__":
    main()
