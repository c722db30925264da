"""Inputs of DFT calculations: CIF, POSCAR, or all that VASP needs but its licensed potentials.

The settings are those of the QMOF database, so that a new gap can stand beside those the model learnt from:
PBE-D3(BJ), 520 eV, Gaussian smearing of 0.01 eV, 1000 k-points per reciprocal atom, no symmetry, forces below
0.03 eV/Å, spin-polarised from high spin (5 Bohr magnetons on d-block, 7 on f-block metals). Rosen et al.,
Matter 4, 1578 (2021); the QMOF preset of quacc (quantum-accelerators.github.io/quacc). Potentials are the
choice of the Materials Project (pymatgen's ``MPRelaxSet``), which may differ for single elements.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from mofgap.crystals.convert import to_pymatgen
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.write import write_cif

Kind = Literal["cif", "poscar", "vasp"]
KINDS: tuple[Kind, ...] = get_args(Kind)

KPOINTS_PER_ATOM = 1000
STATIC: dict[str, Any] = {
    "ALGO": "All",
    "EDIFF": 1e-6,
    "ENCUT": 520,
    "GGA": "PE",
    "ISMEAR": 0,
    "ISPIN": 2,
    "ISYM": 0,
    "IVDW": 12,
    "LORBIT": 11,
    "LREAL": False,
    "LWAVE": False,
    "NELM": 150,
    "NELMIN": 3,
    "NSW": 0,
    "PREC": "Accurate",
    "SIGMA": 0.01,
    "SYMPREC": 1e-8,
}
"""INCAR of the calculation that gives the gap; IVDW 12 is D3 with Becke-Johnson damping."""

RELAXATION = STATIC | {"EDIFFG": -0.03, "IBRION": 2, "ISIF": 3, "NSW": 200}
"""INCAR of the relaxation of atoms and cell before it."""

D_BLOCK_MAGMOM, F_BLOCK_MAGMOM = 5.0, 7.0


def write_inputs(folder: Path, crystals: Sequence[Crystal], kind: Kind) -> list[Path]:
    """Write an input for each crystal, named by its place and its structure id.

    ``cif`` and ``poscar`` are a file each; ``vasp`` is a folder each with POSCAR, KPOINTS, INCAR (to relax),
    INCAR.static (the gap of the relaxed structure) and POTCAR.spec (names of the potentials, one a line).

    Args:
        folder: Made if need be.
        crystals: In order.
        kind: ``cif``, ``poscar`` or ``vasp``.

    Raises:
        ValueError: ``kind`` is none of these.
        OSError: Something cannot be written.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    folder.mkdir(parents=True, exist_ok=True)
    digits = len(str(len(crystals)))
    written = []
    for place, crystal in enumerate(crystals, start=1):
        safe = re.sub(r"[^\w.+-]", "_", crystal.structure_id) or "structure"
        path = folder / f"{place:0{digits}d}_{safe}"
        if kind == "cif":
            path = path.with_name(f"{path.name}.cif")
            path.write_text(write_cif(crystal), encoding="utf-8")
        elif kind == "poscar":
            path = path.with_name(f"{path.name}.poscar")
            path.write_text(str(_poscar(_input_set(crystal))), encoding="utf-8")
        else:
            _write_vasp(path, crystal)
        written.append(path)
    return written


def without_potential(crystal: Crystal) -> list[str]:
    """Symbols of the elements for which ``POTCAR.spec`` has no potential's name, but the element's."""
    from pymatgen.io.vasp.sets import MPRelaxSet

    named = MPRelaxSet.CONFIG["POTCAR"]
    return sorted({element.symbol for element in to_pymatgen(crystal).elements} - set(named))


def _write_vasp(folder: Path, crystal: Crystal) -> None:
    from pymatgen.io.vasp.inputs import Incar, Kpoints

    inputs = _input_set(crystal)
    structure = inputs.structure
    magmom = {"MAGMOM": [_magmom(site.specie) for site in structure]}
    folder.mkdir(exist_ok=True)
    texts = {
        "POSCAR": _poscar(inputs),
        "KPOINTS": Kpoints.automatic_density(structure, KPOINTS_PER_ATOM, force_gamma=True),
        "INCAR": Incar(RELAXATION | magmom),
        "INCAR.static": Incar(STATIC | magmom),
        "POTCAR.spec": "\n".join(inputs.potcar_symbols),
    }
    for name, content in texts.items():
        (folder / name).write_text(str(content).rstrip("\n") + "\n", encoding="utf-8")


def _input_set(crystal: Crystal) -> Any:
    """Pymatgen's input set: the structure sorted by element, and the potentials in that order."""
    from pymatgen.io.vasp.sets import MPRelaxSet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings that are not used here
        return MPRelaxSet(to_pymatgen(crystal), sort_structure=True)


def _poscar(inputs: Any) -> Any:
    from pymatgen.io.vasp.inputs import Poscar

    return Poscar(inputs.structure)


def _magmom(element: Any) -> float:
    """The moment that the calculation starts from, Bohr magnetons; closed shells of group 12 have none."""
    if element.is_lanthanoid or element.is_actinoid:
        return F_BLOCK_MAGMOM
    return D_BLOCK_MAGMOM if element.is_transition_metal and element.group != 12 else 0.0
