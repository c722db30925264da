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

from mofgap.balora.lock import NETWORK_LOCK
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import crystal_graph
from mofgap.gap.head import GapHead
from mofgap.gap.model import GapModel
from mofgap.gap.posterior import MeanPrediction, at_mean
from mofgap.uncertainty.columns import Floats

N_NODES = 64
"""Nodes of the Gauss-Legendre rule along the path; the integrand is smooth."""

EQUIVALENT = 0.01
"""Atoms of an element get equal shares if their activations differ by less than this many standard
deviations: those that symmetry makes equivalent, apart from rounding in a file, and those that nearly are."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """What each atom of a structure adds to its gap and to the closed-form variance of the gap.

    A share belongs to an atom in its surroundings: an atom's features hold what the encoder saw around it.

    Attributes:
        gap_ev: The network's gap before it is cut at zero, eV.
        reference_ev: What no atom adds, eV: the gap of the head without any atom, plus what other members
            and neighbour correction add to the gap.
        gap_share_ev: (n_atoms,) eV; sums to ``gap_ev - reference_ev``.
        variance_ev2: Variance of the gap from the adapters' posterior, Σ α A² (∂f/∂A)², before calibration,
            eV²; NaN for a model without a posterior. A model with a neighbour correction has another spread,
            which is a distance and has no shares.
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
    to the gap f(p). p is a sum over atoms: c_i holds a_i / n in the mean part. In the other parts it holds
    the extreme values of atom i; atoms in a tie share evenly. The share of atom i is
    sum_k c_ik ∫₀¹ ∂f/∂p_k(t p) dt. It is the integrated gradient along the straight line from no atoms; the
    shares sum to f(p) - f(0). Sundararajan, Taly and Yan, arXiv 1703.01365, equation 1.

    Variance: see `mofgap.balora.Sensitivity`; exact for the closed form.

    Which of several equivalent atoms holds an extreme is chance, so they share evenly what they have.

    Args:
        model: In evaluation mode.
        crystal: The structure.
        device: Where the model lies.
    """
    graph = crystal_graph(crystal, model.graph_config).to(device)
    bayesian = model.noise_network is not None
    with NETWORK_LOCK, torch.no_grad():
        found = at_mean(model, graph, closed_form=bayesian, atom_share=bayesian)
        corrected_ev = float(found.corrected(found.gap_ev, found.aleatoric_std_ev)[0])
        activations = model.head.activations(model.backbone(graph, found.frozen))
        parts = pooled_parts(activations)
        network_ev = float(model.from_pooled(parts.sum(0)[None])[0])
        variance, variance_share = _variance(found, crystal.n_atoms)
    group = equivalent(activations.cpu().double().numpy(), crystal.atomic_numbers)
    gradient, reference = _path_gradient(model.head, parts.sum(0))
    scale = float(model.gap_std_ev)
    shares = scale * (parts.double() @ gradient.double()).cpu().numpy()
    residual_ev = corrected_ev - network_ev
    return Attribution(
        gap_ev=corrected_ev,
        reference_ev=float(model.gap_mean_ev) + scale * reference + residual_ev,
        gap_share_ev=_evenly(shares, group),
        variance_ev2=variance,
        variance_share_ev2=_evenly(variance_share, group),
    )


def _variance(found: MeanPrediction, n_atoms: int) -> tuple[float, Floats]:
    """The closed-form variance of a structure and its atoms' shares (n_atoms,), eV²; NaN without any."""
    if found.sensitivity is None or found.sensitivity.per_row is None:
        return np.nan, np.full(n_atoms, np.nan)
    shares = found.sensitivity.variance_per_row(found.alpha)
    return float(found.sensitivity.variance(found.alpha)[0]), shares.cpu().double().numpy()


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
    same = (distance <= EQUIVALENT * activations.std()) & (atomic_numbers[:, None] == atomic_numbers)
    group: NDArray[np.int64] = connected_components(coo_array(same), directed=False)[1]
    return group


def _evenly(shares: Floats, group: NDArray[np.int64]) -> Floats:
    """Shares averaged over each group of atoms; their sum does not change."""
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
