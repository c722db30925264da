"""Inputs of DFT calculations: CIF, POSCAR, or all that VASP needs but its licensed potentials.

The settings are those of the QMOF database, so that a new gap can be compared with the training gaps.
Energies: PBE-D3(BJ), PAW potentials PBE.54, 520 eV, Gaussian smearing of 0.01 eV, 1000 k-points per
reciprocal atom, no symmetry. Forces: below 0.03 eV/Å. Spin: polarised from high spin, 5 Bohr magnetons on
d-block and 7 on f-block metals. Rosen et al., Matter 4, 1578 (2021); potentials and moments as the QMOF
preset of quacc 1.8 has them (quantum-accelerators.github.io/quacc). HSE06 gaps are of one more calculation on
the relaxed structure. A POSCAR holds the primitive cell, a half to a quarter of a centred one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from mofgap.choices import DftInput, check_choice
from mofgap.crystals.convert import to_pymatgen
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.write import write_cif
from mofgap.whole_file import whole_folder, write_text

KINDS: tuple[DftInput, ...] = get_args(DftInput)

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

HYBRID = STATIC | {"LHFCALC": True, "HFSCREEN": 0.2}
"""INCAR of the HSE06 gap after both; HSE06: Krukau et al., J. Chem. Phys. 125, 224106 (2006)."""

LONGEST_NAME = 180
"""Bytes of a structure's name in that of its input; file systems take 255, with all that is put around it."""

SYMPREC = 0.01
"""Å, within which atoms are equal by symmetry."""

D_BLOCK_MAGMOM, F_BLOCK_MAGMOM = 5.0, 7.0

_POTENTIALS = """
H He Li Be B C N O F Ne Na_pv Mg Al Si P S Cl Ar K_sv Ca_sv Sc_sv Ti_sv V_sv Cr_pv Mn_pv Fe Co Ni Cu
Zn Ga_d Ge_d As Se Br Kr Rb_sv Sr_sv Y_sv Zr_sv Nb_sv Mo_sv Tc_pv Ru_pv Rh_pv Pd Ag Cd In_d Sn_d Sb
Te I Xe Cs_sv Ba_sv La Ce Pr_3 Nd_3 Pm_3 Sm_3 Eu_3 Gd_3 Tb_3 Dy_3 Ho_3 Er_3 Tm_3 Yb_3 Lu_3 Hf_pv
Ta_pv W_sv Re Os Ir Pt Au Hg Tl_d Pb_d Bi_d Po_d At Rn Fr_sv Ra_sv Ac Th Pa U Np Pu Am Cm Cf
"""
POTENTIALS = {name.partition("_")[0]: name for name in _POTENTIALS.split()}
"""The PAW potential of each element: those that VASP recommends, but Li, Eu_3 and Yb_3."""


def write_inputs(
    folder: Path, crystals: Sequence[Crystal], kind: DftInput, *, hybrid: bool = False
) -> list[Path]:
    """Write an input for each crystal, named by its place and its structure id.

    ``cif`` and ``poscar`` are a file for each crystal, ``vasp`` is a folder. The folder holds POSCAR,
    KPOINTS, INCAR (to relax), INCAR.static (the gap of the relaxed structure) and POTCAR.spec. That names the
    potentials, one a line. Each file or folder appears whole or not at all.

    Args:
        folder: Made if need be.
        crystals: In order.
        kind: ``cif``, ``poscar`` or ``vasp``.
        hybrid: Add INCAR.hse06 (the HSE06 gap of the relaxed structure) to a folder of ``vasp``.

    Raises:
        ValueError: If ``kind`` is not one of `KINDS`, or ``folder`` holds inputs of other crystals.
        OSError: If a file or folder cannot be written.
    """
    check_choice("kind", kind, KINDS)
    folder.mkdir(parents=True, exist_ok=True)
    digits, ending = len(str(len(crystals))), "" if kind == "vasp" else f".{kind}"
    names = [f"{i:0{digits}d}_{_safe_name(crystal)}{ending}" for i, crystal in enumerate(crystals, start=1)]
    others = sorted({path.name for path in folder.glob("[0-9]*_*")} - set(names))
    if others:
        raise ValueError(
            f"{folder} holds inputs of an earlier selection ({others[0]} ...); remove them, or name another"
        )
    paths = [folder / name for name in names]
    for path, crystal in zip(paths, crystals, strict=True):
        if kind == "vasp":
            _write_vasp(path, crystal, hybrid)
        else:
            write_text(path, write_cif(crystal) if kind == "cif" else str(_poscar(crystal)))
    return paths


def _safe_name(crystal: Crystal) -> str:
    """A structure's id as part of a file's name."""
    safe = re.sub(r"[^\w.+-]", "_", crystal.structure_id) or "structure"
    return safe.encode()[:LONGEST_NAME].decode(errors="ignore")


def without_potential(crystal: Crystal) -> list[str]:
    """Symbols of the elements for which ``POTCAR.spec`` has no potential's name, but the element's."""
    return sorted({element.symbol for element in to_pymatgen(crystal).elements} - set(POTENTIALS))


def _write_vasp(folder: Path, crystal: Crystal, hybrid: bool) -> None:
    from pymatgen.io.vasp.inputs import Incar, Kpoints

    poscar = _poscar(crystal)
    magmom = {"MAGMOM": [_magmom(site.specie) for site in poscar.structure]}
    texts = {
        "POSCAR": poscar,
        "KPOINTS": Kpoints.automatic_density(poscar.structure, KPOINTS_PER_ATOM, force_gamma=True),
        "INCAR": Incar(RELAXATION | magmom),
        "INCAR.static": Incar(STATIC | magmom),
        "POTCAR.spec": "\n".join(POTENTIALS.get(symbol, symbol) for symbol in poscar.site_symbols),
    }
    if hybrid:
        texts["INCAR.hse06"] = Incar(HYBRID | magmom)
    with whole_folder(folder) as partial:
        for name, content in texts.items():
            (partial / name).write_text(str(content).rstrip("\n") + "\n", encoding="utf-8")


def _poscar(crystal: Crystal) -> Any:
    """Pymatgen's POSCAR of the primitive cell, atoms sorted by element."""
    from pymatgen.io.vasp.inputs import Poscar
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    structure = to_pymatgen(crystal)
    try:
        primitive = SpacegroupAnalyzer(structure, symprec=SYMPREC).find_primitive()
    except ValueError:  # no symmetry was found
        primitive = None
    if primitive is not None and len(primitive) < len(structure):
        structure = primitive
    return Poscar(structure.get_sorted_structure())


def _magmom(element: Any) -> float:
    """The moment that the calculation starts from, Bohr magnetons; 0 for Zn and Ac, unlike other d-metals."""
    if 57 <= element.Z <= 70 or 90 <= element.Z <= 102:
        return F_BLOCK_MAGMOM
    return D_BLOCK_MAGMOM if 3 <= element.group <= 12 and element.symbol not in ("Zn", "Ac") else 0.0
