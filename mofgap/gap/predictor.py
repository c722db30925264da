"""A loaded model as a chemist uses it: structures in, gaps with calibrated error bars out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import typing as npt
from numpy.typing import NDArray

from mofgap.balora.lock import NETWORK_LOCK
from mofgap.choices import BATCH_ATOMS, DRAWN, MAX_ATOMS, N_SAMPLES, Disorder, Uncertainty, check_draws
from mofgap.crystals.checks import check_crystal, is_unbalanced
from mofgap.crystals.convert import is_one
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.distinct import without_repeats
from mofgap.crystals.graph import collate, crystal_graph, pack_by_atoms
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.crystals.prepare.steps import DEFAULT_PREPARATION
from mofgap.crystals.single import crystal_of
from mofgap.gap.common_encoder import CommonEncoder, common_encoder
from mofgap.gap.correction import NUGGET
from mofgap.gap.error_bars import UNKNOWN_STD_EV, total_std
from mofgap.gap.folder import About, ModelError, find_model, read_model
from mofgap.gap.model import GapModel
from mofgap.gap.novelty_warnings import EXPERIMENTAL, NOT_CALIBRATED, UNCALIBRATED, is_note, novelty_warnings
from mofgap.gap.posterior import Posterior, posterior, spread_of
from mofgap.gap.unseen_elements import widening
from mofgap.shipped import DEFAULT_MODEL
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.columns import Floats
from mofgap.uncertainty.novelty import SAME_STRUCTURE, NoveltyIndex


@dataclass(frozen=True, eq=False)
class Predictions:
    """Calibrated predictions of n structures.

    Attributes:
        gap_ev: (n,) predicted gap, eV, never below zero.
        gap_std_ev: (n,) calibrated total standard deviation, eV.
        epistemic_std_ev: (n,) its epistemic part, eV; NaN where there is none.
        aleatoric_std_ev: (n,) its aleatoric part, eV: noise of the labels, differences that the model cannot
            see, and what an experimental geometry adds.
        novelty: (n,) 0..1, the share of training structures less remote from the rest than this one.
        nearest: Ids of the nearest training structures of each.
        in_training: (n,) whether the model was trained on the gap of the structure, which is the nearest.
        rare_elements: Elements of each that few training structures have, with their number.
        second_level: The predictions of the model of a second level of theory; None without one.
    """

    gap_ev: Floats
    gap_std_ev: Floats
    epistemic_std_ev: Floats
    aleatoric_std_ev: Floats
    novelty: Floats
    nearest: tuple[tuple[str, ...], ...]
    in_training: NDArray[np.bool_]
    rare_elements: tuple[dict[int, int], ...]
    second_level: Predictions | None = None


@dataclass(frozen=True, eq=False, repr=False)
class GapPredictor:
    """A gap model with its calibration and its index of the training set.

    Attributes:
        model: The network.
        about: Name, level of theory, citation.
        calibration: Raw spreads to calibrated ones, intervals and window probabilities.
        novelty: Index of the training structures.
        device: Where the network runs.
        second_level: The model of another level of theory, which reads the same graphs; None without one.
    """

    model: GapModel
    about: About
    calibration: Calibration
    novelty: NoveltyIndex
    device: str = "cpu"
    second_level: GapPredictor | None = None

    @property
    def levels(self) -> list[GapPredictor]:
        """This predictor, then that of the second level where there is one."""
        return [self] if self.second_level is None else [self, self.second_level]

    def __repr__(self) -> str:
        """What the model is, in a few lines."""
        made = self.model.config
        n_parameters = sum(weight.numel() for weight in self.model.parameters())
        lines = {
            "level of theory": self.about.level_of_theory,
            "made of": f"{made.method} on {made.encoder}, {n_parameters:,} parameters, on {self.device}",
            "novelty index": f"{len(self.novelty.ids):,} training structures",
            "error bars": "not calibrated" if self.calibration.is_raw else "calibrated",
            "cite": self.about.citation,
            "second level": self.second_level.about.name if self.second_level else "",
        }
        return "\n".join(
            [f"GapPredictor {self.about.name}", *(f"  {k:<16}{v}" for k, v in lines.items() if v)]
        )

    @torch.inference_mode(False)  # the closed form takes gradients, whatever is around it
    @torch.no_grad()
    def estimate(
        self,
        crystals: Sequence[Crystal],
        *,
        uncertainty: Uncertainty = "auto",
        samples: int = N_SAMPLES,
        seed: int = 0,
        batch_atoms: int = BATCH_ATOMS,
    ) -> Predictions:
        """Predict crystals, in order.

        On a CPU each structure is computed by itself. Its numbers then do not depend on the other structures,
        to the last digit. On a GPU structures are packed into batches.

        Args:
            crystals: What to predict, as they are: neither checked nor prepared.
            uncertainty: Where the epistemic part comes from, see `mofgap.choices.Uncertainty`.
            samples: Draws of ``weights`` and ``rows``; 0 gives the mean alone, without the epistemic part.
            seed: Seed of the draws.
            batch_atoms: Atoms of a batch on a GPU.

        Raises:
            ValueError: If ``uncertainty`` is unknown or the model cannot give it, ``samples`` is negative, or
                ``samples`` is 1 for a drawn uncertainty.
        """
        check_draws(uncertainty, samples)
        self.check_spread(uncertainty)
        alone = 1 if self.device == "cpu" else batch_atoms
        found = [[Posterior.empty(len(predictor.novelty.mean))] for predictor in self.levels]
        how: Any = {"uncertainty": uncertainty, "samples": samples, "seed": seed}
        for pack in pack_by_atoms((c.n_atoms for c in crystals), alone):
            graphs = [crystal_graph(crystals[i], self.model.graph_config) for i in pack]
            if uncertainty not in DRAWN:  # each atom has its own noise in some draws
                graphs = [without_repeats(graph) for graph in graphs]
            batch = (graphs[0] if len(graphs) == 1 else collate(graphs)).to(self.device)
            elements = set(batch.atomic_number.tolist())
            with NETWORK_LOCK:
                frozen, *of_members = (
                    None if common is None else common.run_frozen(batch, elements) for common in self._shared
                )
                for predictor, parts in zip(self.levels, found, strict=True):
                    of_own = of_members[: len(predictor.model.members)]
                    parts.append(posterior(predictor.model, batch, **how, frozen=frozen, of_members=of_own))
        numbers = [crystal.atomic_numbers for crystal in crystals]
        experimental = np.array([crystal.experimental for crystal in crystals], dtype=np.float64)
        unbalanced = np.array([is_unbalanced(crystal) for crystal in crystals], dtype=np.float64)
        estimates = [
            predictor.calibrated(Posterior.joined(parts), numbers, experimental, unbalanced)
            for predictor, parts in zip(self.levels, found, strict=True)
        ]
        return replace(estimates[0], second_level=estimates[1]) if self.second_level else estimates[0]

    def check_spread(self, uncertainty: Uncertainty) -> None:
        """Refuse a spread that the model or the model of the second level cannot give.

        Raises:
            ValueError: If a model cannot give the spread ``uncertainty``. The message names the model.
        """
        for each in self.levels:
            try:
                spread_of(each.model, uncertainty)
            except ValueError as error:
                raise ValueError(f"{each.about.name}: {error}") from error

    def other_spread(self, uncertainty: Uncertainty, samples: int) -> list[str]:
        """A warning if the calibration was fitted to another kind of spread than a prediction has.

        Args:
            uncertainty: Where the epistemic part comes from.
            samples: Draws of it; 0 for the mean alone.
        """
        fitted = spread_of(self.model, "auto")
        asked = spread_of(self.model, uncertainty) if samples else None
        if asked == fitted:
            return []
        of_draws = f"{samples} draws of " if asked in DRAWN else ""
        what = f"this one is of {of_draws}{asked}" if asked else "the mean alone has no epistemic part"
        text = f"other-spread: intervals are fitted to the spread {fitted}, and {what}: perhaps too short"
        if asked == "rows":
            # Noise of its own moves the largest and the smallest of many atoms, at which the head looks.
            text += "; noise in each atom moves the gap too, by the more the larger the cell"
        return [text]

    @cached_property
    def _shared(self) -> list[CommonEncoder | None]:
        """The encoders of the network and its other members, where both levels have the same below adapters.

        That part is then computed once for both levels. None for an encoder that differs.
        """
        if self.second_level is None:
            return [None]
        own, other = self.model, self.second_level.model
        return [common_encoder(*pair) for pair in zip_longest([own, *own.members], [other, *other.members])]

    def calibrated(
        self,
        found: Posterior,
        atomic_numbers: Sequence[npt.ArrayLike],
        experimental: npt.ArrayLike = 0.0,
        unbalanced: npt.ArrayLike = 0.0,
    ) -> Predictions:
        """The predictions of structures, from what the model says of them.

        Args:
            found: Of n structures.
            atomic_numbers: Those of each.
            experimental: (n,) or (), 1 for a geometry that was not relaxed by DFT and 0 for one that was.
            unbalanced: (n,) or (), 1 for a structure whose charges do not add up, 0 for others.
        """
        far = self.novelty.score(found.features, atomic_numbers)
        widened = found.widened(widening(far, self.model.config.substitutes))
        std_of = partial(
            total_std, widened, self.calibration, experimental=experimental, unbalanced=unbalanced
        )
        total, unlimited = std_of(), std_of(most_ev=np.inf)
        aleatoric = self.calibration.std(0 * total, found.aleatoric_std_ev, experimental)
        # Both parts of a standard deviation that is too large become smaller.
        aleatoric = np.minimum(np.where(unlimited > total, aleatoric * (total / unlimited), aleatoric), total)
        # All else is epistemic, also what unseen elements and charges add.
        rest = np.sqrt(total**2 - aleatoric**2)
        return Predictions(
            gap_ev=np.maximum(found.gap_ev, 0.0),
            gap_std_ev=total,
            epistemic_std_ev=np.where(np.isnan(found.epistemic_std_ev), np.nan, rest),
            aleatoric_std_ev=aleatoric,
            novelty=far.percentile,
            nearest=far.nearest,
            in_training=far.in_training & self._gap_is_known(found),
            rare_elements=far.rare_elements,
        )

    def _gap_is_known(self, found: Posterior) -> NDArray[np.bool_]:
        """(n,) whether the neighbour correction has a structure, or the index a gap of it.

        A model taken from another one has the novelty index of both, and gaps of fewer structures.
        """
        correction, distance = self.model.correction, found.relative_distance
        if correction is None or not correction.spacing > 0 or distance is None:
            return self.novelty.knows_gap(found.features)
        known: NDArray[np.bool_] = distance < (NUGGET + SAME_STRUCTURE) / (1 + NUGGET)
        return known

    def predict(
        self,
        structures: Any,
        return_std: bool = False,
        *,
        uncertainty: Uncertainty = "auto",
        samples: int = N_SAMPLES,
        seed: int = 0,
        disorder: Disorder = "refuse",
        max_atoms: int = MAX_ATOMS,
        preparation: PreparationConfig | None = DEFAULT_PREPARATION,
    ) -> Any:
        """Predict one structure or many.

        A warning about a structure, such as missing hydrogens or an element without training data, is a
        Python warning. `mofgap.screen` gives intervals, novelty and reasons of failures too.

        Args:
            structures: A pymatgen ``Structure``, ASE ``Atoms``, ``Crystal`` or path to a file; or several.
            return_std: Return the standard deviations too, calibrated unless the model is not.
            uncertainty: Where the epistemic part of the spread comes from: ``auto``, ``distance``,
                ``closed-form``, ``weights`` or ``rows``. The calibration is that of ``auto``.
            samples: Draws of ``weights`` and ``rows``.
            seed: Seed of the draws.
            disorder: What to do about partial occupancies in a file.
            max_atoms: Largest cell that is accepted, after it was made primitive, in atoms.
            preparation: Which steps bring a structure nearer to that of DFT, as in a screening; None leaves
                it as it is.

        Returns:
            Gaps in eV, with standard deviations in eV if asked for: floats for one structure, (n,) arrays
            for several.

        Raises:
            ValueError: If a structure is refused, the model cannot give ``uncertainty``, or ``samples`` is 1
                for a drawn uncertainty. The message names the file or position of the structure, and the
                reason.
            TypeError: If an item of ``structures`` is neither a path nor a structure.
        """
        single = not isinstance(structures, Iterable) or is_one(structures)
        items = [structures] if single else structures
        crystals = [
            crystal_of(
                item,
                name=f"structure-{place}",
                disorder=disorder,
                max_atoms=max_atoms,
                preparation=preparation,
            )
            for place, item in enumerate(items, 1)
        ]
        draws = samples if return_std or uncertainty in DRAWN else 0
        found = self.estimate(crystals, uncertainty=uncertainty, samples=draws, seed=seed)
        if return_std:
            self.warn_if_raw()
            for text in self.other_spread(uncertainty, draws):
                warnings.warn(text, stacklevel=2)
        for i, crystal in enumerate(crystals):
            for text in self.warnings_of(crystal, found, i):
                warnings.warn(f"{crystal.structure_id}: {text}", stacklevel=2)
        if single:
            return (
                (float(found.gap_ev[0]), float(found.gap_std_ev[0])) if return_std else float(found.gap_ev[0])
            )
        return (found.gap_ev, found.gap_std_ev) if return_std else found.gap_ev

    def warn_if_raw(self) -> None:
        """A Python warning for each level whose error bars are not calibrated."""
        for each in self.levels:
            if each.calibration.is_raw:
                warnings.warn(f"{each.about.name} {NOT_CALIBRATED}", stacklevel=3)

    def warnings_of(self, crystal: Crystal, found: Predictions, place: int = 0) -> list[str]:
        """Warnings of the crystal at a place of some predictions, ``name: what`` each."""
        texts = (*crystal.warnings, *check_crystal(crystal), *self.novelty_warnings(crystal, found, place))
        return [text for text in texts if not is_note(text)]

    def calibration_notes(self) -> list[str]:
        """A note if the error bars are not calibrated."""
        return [f"{UNCALIBRATED}: {self.about.name} {NOT_CALIBRATED}"] if self.calibration.is_raw else []

    def geometry_notes(self, crystal: Crystal) -> list[str]:
        """A note on a structure with an experimental geometry."""
        if not crystal.experimental or self.calibration.experimental_std_ev is None:
            return []
        return [f"{EXPERIMENTAL}: training structures are relaxed by DFT, this one is not"]

    def novelty_warnings(self, crystal: Crystal, found: Predictions, place: int) -> list[str]:
        """The `novelty_warnings` of the crystal at a place of some predictions."""
        about = found.novelty[place], found.nearest[place], bool(found.in_training[place])
        known = found.rare_elements[place], self.model.config.substitutes
        widest = bool(found.gap_std_ev[place] >= UNKNOWN_STD_EV)
        gap_is_unknown = widest and (self.calibration.is_raw or not is_unbalanced(crystal))
        return novelty_warnings(self.novelty, crystal, *about, *known, gap_is_unknown=gap_is_unknown)


def load_model(
    name: str | Path = DEFAULT_MODEL, device: str = "auto", second_level: str | Path | None = None
) -> GapPredictor:
    """Load a shipped model by name, or a model folder.

    >>> gap_ev, std_ev = load_model("qmof-hse06").predict("structures/MOF-5_MIBQAR16.cif", return_std=True)

    Args:
        name: ``qmof-hse06``, ``qmof-pbe``, or a folder that ``mofgap train`` wrote.
        device: ``auto``, ``cpu`` or ``cuda``.
        second_level: The model of a second level of theory, which reads the same graphs.

    Raises:
        ModelError: If the model ``name`` or ``second_level`` does not exist or is damaged, or the two read
            different graphs.
        ValueError: If ``device`` is not auto, cpu or cuda, or is cuda on a machine without a CUDA device.
    """
    kind, there = str(device).split(":")[0], torch.cuda.is_available()
    if kind not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, not {device}")
    if kind == "cuda" and not there:
        raise ValueError("device cuda was asked for, but torch sees no CUDA device here")
    device = ("cuda" if there else "cpu") if kind == "auto" else "cpu" if kind == "cpu" else str(device)
    other = None if second_level is None else load_model(second_level, device)
    model, about, calibration, novelty = read_model(find_model(name))
    if other is not None and other.model.graph_config != model.graph_config:
        raise ModelError(
            f"{about.name} and {other.about.name} see different graphs: screen with one at a time"
        )
    return GapPredictor(model.to(device), about, calibration, novelty, device, other)
