"""Which atoms a gap and its uncertainty come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from torch import Tensor

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import crystal_graph
from mofgap.gap.head import GapHead
from mofgap.gap.model import GapModel
from mofgap.gap.posterior import posterior

Floats = NDArray[np.float64]

N_NODES = 64
"""Nodes of the Gauss-Legendre rule along the path; the integrand is smooth."""

ALIKE = 0.01
"""Atoms of an element whose activations differ by less than this many standard deviations share alike: those
that symmetry makes equivalent, which rounding in a file sets a little apart, and those that nearly are."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """What each atom of a structure adds to its gap and to the variance of the model's own doubt.

    A share belongs to an atom in its surroundings: an atom's features hold what the encoder saw around it.

    Attributes:
        gap_ev: The network's gap before it is cut at zero, eV.
        reference_ev: What no atom adds, eV: the gap of the head without any, and what training left missing
            near by.
        gap_share_ev: (n_atoms,) eV; sums to ``gap_ev - reference_ev``.
        variance_ev2: Closed-form variance of the gap before calibration, eV²; NaN for a model without.
        variance_share_ev2: (n_atoms,) eV²; sums to ``variance_ev2``. A share may be negative, where an atom
            opposes the others.
    """

    gap_ev: float
    reference_ev: float
    gap_share_ev: Floats
    variance_ev2: float
    variance_share_ev2: Floats

    @property
    def variance_fraction(self) -> Floats:
        """(n_atoms,) shares of the variance as fractions; sums to 1, or NaN where there is no variance."""
        whole = self.variance_ev2 if self.variance_ev2 > 0 else np.nan
        return self.variance_share_ev2 / whole


@torch.inference_mode(False)  # gradients are taken, whatever is around it
def attribute(model: GapModel, crystal: Crystal, device: str = "cpu") -> Attribution:
    """Share out the gap and the closed-form variance of one crystal among its atoms.

    Gap: the head pools the atoms' activations into p (mean, largest and smallest of each channel) and maps p
    to the gap f(p). p is a sum over atoms: c_i holds a_i / n in the mean part, and in the others the extreme
    values that atom i holds (atoms in a tie share evenly). The share of atom i is
    sum_k c_ik ∫₀¹ ∂f/∂p_k(t p) dt, the integrated gradient along the straight line from no atoms at all;
    the shares sum to f(p) - f(0). Sundararajan, Taly and Yan, arXiv 1703.01365, equation 1.

    Variance: see `mofgap.balora.Sensitivity`; exact for the closed form.

    Which of several equivalent atoms holds an extreme is chance, so they share evenly what they have.

    Args:
        model: In evaluation mode.
        crystal: The structure.
        device: Where the model lies.
    """
    graph = crystal_graph(crystal, model.graph_config).to(device)
    found = posterior(model, graph, atom_share=True)
    with torch.no_grad():
        activations = model.head.activations(model.encoder(graph))
        parts = pooled_parts(activations)
        network_ev = float(model.from_pooled(parts.sum(0)[None])[0])
    group = equivalent(activations.cpu().double().numpy(), crystal.atomic_numbers)
    gradient, reference = _path_gradient(model.head, parts.sum(0))
    scale = float(model.gap_std_ev)
    shares = scale * (parts.double() @ gradient.double()).cpu().numpy()
    missing_ev = float(found.gap_ev[0]) - network_ev  # what the memory adds
    doubt = np.full(crystal.n_atoms, np.nan) if found.atom_share is None else found.atom_share
    return Attribution(
        gap_ev=float(found.gap_ev[0]),
        reference_ev=float(model.gap_mean_ev) + scale * reference + missing_ev,
        gap_share_ev=_evenly(shares, group),
        variance_ev2=float(found.epistemic_std_ev[0]) ** 2,
        variance_share_ev2=_evenly(doubt, group),
    )


def pooled_parts(activations: Tensor) -> Tensor:
    """Each atom's part of the pooled activations.

    Args:
        activations: (n_atoms, hidden).

    Returns:
        (n_atoms, 3 hidden); the sum over atoms is what `mofgap.gap.head.pool` gives.
    """
    parts = [activations / len(activations)]
    for extreme in (activations.amax(0), activations.amin(0)):
        holds = activations == extreme
        parts.append(holds * extreme / holds.sum(0))
    return torch.cat(parts, dim=1)


def equivalent(activations: Floats, atomic_numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups of atoms that the model cannot tell apart, a number for each atom.

    Args:
        activations: (n_atoms, hidden).
        atomic_numbers: (n_atoms,).
    """
    distance = cdist(activations, activations, "chebyshev")
    alike = (distance <= ALIKE * activations.std()) & (atomic_numbers[:, None] == atomic_numbers)
    group: NDArray[np.int64] = connected_components(coo_array(alike), directed=False)[1]
    return group


def _evenly(shares: Floats, group: NDArray[np.int64]) -> Floats:
    """Shares averaged over each group of atoms; the sum stays."""
    mean: Floats = np.bincount(group, weights=shares) / np.bincount(group)
    return mean[group]


def _path_gradient(head: GapHead, pooled: Tensor) -> tuple[Tensor, float]:
    """The gradient of the normalised gap averaged from 0 to ``pooled`` (3 hidden,), and the gap at 0."""
    nodes, weights = np.polynomial.legendre.leggauss(N_NODES)
    t = torch.as_tensor((nodes + 1) / 2, dtype=pooled.dtype, device=pooled.device)
    weight = torch.as_tensor(weights / 2, dtype=pooled.dtype, device=pooled.device)
    with torch.enable_grad():
        path = (t[:, None] * pooled).requires_grad_()
        mean, _ = head.from_pooled(path)
        (gradients,) = torch.autograd.grad(mean.sum(), path)
    with torch.no_grad():
        start, _ = head.from_pooled(torch.zeros_like(pooled)[None])
    return weight @ gradients, float(start)
