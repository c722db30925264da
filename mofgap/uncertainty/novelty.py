"""Novelty: the distance of a structure from the training structures."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save_file

from mofgap.neighbours import Neighbours, whitening
from mofgap.uncertainty.columns import Floats

FORMAT, *OLD_FORMATS = "novelty index 3", "novelty index 2", "novelty index 1"
N_ELEMENTS = 118
MAX_COORDINATION = 16
RARE = 10
"""An element in fewer training structures than this is rare."""
SAME_STRUCTURE = 0.02
"""A structure within this part of the median distance is the training structure itself. Rounding gives less,
and different structures are farther apart (``tests/test_shipped_model.py``)."""
MIN_DIMS = 8
"""With fewer components, different structures may be as close as `SAME_STRUCTURE` by chance."""


@dataclass(frozen=True)
class Novelty:
    """The novelty of n structures.

    Attributes:
        percentile: The fraction of training structures that lie closer to the rest of the training set than
            this structure does, 0 to 1, shape (n,); 1 if an element has no training structure.
        distance: Mean distance to the nearest training structures in whitened features, shape (n,). It orders
            structures whose percentile is 1.
        nearest: For each structure the ids of its nearest training structures, nearest first.
        in_training: Whether the nearest training structure is the structure itself, shape (n,); always false
            with fewer than `MIN_DIMS` components.
        rare_elements: For each structure, atomic number -> number of training structures, for elements in
            fewer than `RARE` of them.
    """

    percentile: Floats
    distance: Floats
    nearest: tuple[tuple[str, ...], ...]
    in_training: npt.NDArray[np.bool_]
    rare_elements: tuple[dict[int, int], ...]


@dataclass(frozen=True, eq=False)
class NoveltyIndex:
    """The training set in compact form: a quarter of a kilobyte and an id per structure.

    Distance in a frozen model's features as a measure of uncertainty follows Janet, Duan, Yang, Nandy and
    Kulik, Chem. Sci. 10, 7913 (2019). Scores of a structure do not depend on the others of the call.

    Attributes:
        mean: Mean of the training features, float32, shape (d,).
        projection: Onto the leading principal components of the standardised features, each scaled to unit
            variance, float32, shape (d, n_dims).
        points: The projected training features, float16, shape (n_train, n_dims).
        quantiles: Quantiles of the training structures' own distances, each left out in turn, float32, shape
            (n_q,).
        element_counts: Number of training structures that have an element, int32, shape (119,) by atomic
            number.
        coordination_counts: Number of training structures by atomic number and number of neighbours of an
            atom, int32, shape (119, 17), the last column for 16 or more. A row is zero if nothing is known.
        ids: Identifiers of the training structures, length n_train.
        names: Their refcodes or common names, length n_train; empty if there is none.
        gap_ev: Their labels, eV, float32, shape (n_train,); NaN if there is none of the model's level of
            theory.
        n_neighbours: Number of nearest training structures whose mean distance is taken.
    """

    mean: npt.NDArray[np.float32]
    projection: npt.NDArray[np.float32]
    points: npt.NDArray[np.float16]
    quantiles: npt.NDArray[np.float32]
    element_counts: npt.NDArray[np.int32]
    coordination_counts: npt.NDArray[np.int32]
    ids: tuple[str, ...]
    names: tuple[str, ...]
    gap_ev: npt.NDArray[np.float32]
    n_neighbours: int

    def known_as(self, structure_id: str) -> str:
        """A training structure with its name and its known gap, such as ``qmof-c2b5b0e (SAHYIK, 3.44 eV)``.

        A vertical bar is replaced, since it separates the entries in a cell of a table.
        """
        name, gap_ev = self.name_of(structure_id), self.gap_of(structure_id)
        known = [name] * (name not in structure_id) + [f"{gap_ev:.2f} eV"] * bool(np.isfinite(gap_ev))
        return f"{structure_id} ({', '.join(known)})".removesuffix(" ()").replace("|", "/")

    def gap_of(self, structure_id: str) -> float:
        """The known gap of a training structure, eV; NaN if there is none."""
        return float(self.gap_ev[self._index_of_id[structure_id]])

    def name_of(self, structure_id: str) -> str:
        """The refcode or common name of a training structure; empty if it has none."""
        return self.names[self._index_of_id[structure_id]]

    def score(self, features: npt.ArrayLike, atomic_numbers: Sequence[npt.ArrayLike]) -> Novelty:
        """Score structures one by one.

        Args:
            features: Frozen features, shape (n, d).
            atomic_numbers: The atoms of each structure, n arrays of shape (n_atoms,).

        Raises:
            ValueError: If the shapes do not fit, a feature is not finite, or an atomic number is not in 1 to
                118.
        """
        rows = _checked(features, len(atomic_numbers))
        if rows.shape[1] != len(self.mean):
            raise ValueError(f"features have {rows.shape[1]} columns, the training set has {len(self.mean)}")
        found = [self._nearest(row) for row in rows]
        distance = np.array([distances.mean() for _, distances in found], dtype=np.float64)
        elements = [_elements(numbers) for numbers in atomic_numbers]
        rare = tuple(
            {int(z): int(self.element_counts[z]) for z in each if self.element_counts[z] < RARE}
            for each in elements
        )
        unseen = np.array([0 in counts.values() for counts in rare], dtype=bool)
        percentile = np.interp(distance, self.quantiles, np.linspace(0, 1, len(self.quantiles)))
        nearest = tuple(tuple(self.ids[i] for i in indices) for indices, _ in found)
        in_training = np.array([self._is_same(distances) for _, distances in found], dtype=bool)
        return Novelty(np.where(unseen, 1.0, percentile), distance, nearest, in_training, rare)

    def unseen_coordination(self, coordination: Collection[tuple[int, int]]) -> list[tuple[int, int]]:
        """The pairs of atomic number and coordination number that no training structure has, in order.

        Elements without recorded coordination numbers are left out.
        """
        counts = self.coordination_counts
        return [
            (z, n)
            for z, n in sorted(coordination)
            if counts[z].any() and not counts[z, min(n, MAX_COORDINATION)]
        ]

    def extended(
        self,
        features: npt.ArrayLike,
        atomic_numbers: Sequence[npt.ArrayLike],
        ids: Sequence[str],
        coordination: Sequence[Collection[tuple[int, int]]] = (),
        names: Sequence[str] = (),
        gap_ev: npt.ArrayLike = (),
    ) -> "NoveltyIndex":
        """The index with more structures; whitening and quantiles do not change.

        Ids that the index has are not added again. Their names and labels are replaced if new ones are given.

        Args:
            features: Frozen features, shape (n, d).
            atomic_numbers: The atoms of each structure, n arrays of shape (n_atoms,).
            ids: Their identifiers, length n, without line feeds.
            coordination: As for `fit_novelty`.
            names: As for `fit_novelty`.
            gap_ev: As for `fit_novelty`.

        Raises:
            ValueError: If the shapes do not fit, or a feature is not finite.
            ValueError: If an id or name has a line feed, or an atomic number is not in 1 to 118.
        """
        _check_lengths(ids, atomic_numbers, coordination)
        names, gaps = _labels(ids, names, gap_ev)
        first = {name: i for i, name in reversed(list(enumerate(ids)))}
        new = sorted(first[name] for name in first.keys() - set(self.ids))
        rows = _checked(features, len(ids))[new]
        counts = self.element_counts.copy()
        for i in new:
            counts[_elements(atomic_numbers[i])] += 1
        seen = _coordination_counts([coordination[i] for i in new] if coordination else ())
        points = ((rows - self.mean) @ self._projection).astype(np.float16)
        again = [(place, first[name]) for place, name in enumerate(self.ids) if name in first]
        old_names, old_gaps = list(self.names), self.gap_ev.copy()
        for place, i in again:
            old_names[place] = names[i] or old_names[place]
            old_gaps[place] = gaps[i] if np.isfinite(gaps[i]) else old_gaps[place]
        return replace(
            self,
            points=np.concatenate([self.points, points]),
            element_counts=counts,
            coordination_counts=self.coordination_counts + seen,
            ids=(*self.ids, *(ids[i] for i in new)),
            names=(*old_names, *(names[i] for i in new)),
            gap_ev=np.concatenate([old_gaps, gaps[new]]),
        )

    def without_gaps(self) -> "NoveltyIndex":
        """The index without the labels, for a model of another level of theory."""
        return replace(self, gap_ev=np.full_like(self.gap_ev, np.nan))

    def _nearest(self, row: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
        """Indices and distances of the nearest training structures, nearest first."""
        return self._neighbours.nearest((row - self.mean) @ self._projection, self.n_neighbours)

    def in_training(self, features: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """(n,) whether structures with the frozen features (n, d) are training structures."""
        rows = _checked(features, len(np.asarray(features)))
        return np.array([self._is_same(self._nearest(row)[1]) for row in rows], dtype=bool)

    def knows_gap(self, features: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """(n,) whether a label of structures with the frozen features (n, d) is known; true if none is."""
        rows, known = _checked(features, len(np.asarray(features))), np.isfinite(self.gap_ev)
        if not known.any():
            return np.ones(len(rows), dtype=bool)
        found = [self._nearest(row) for row in rows]
        return np.array([known[where[self._same(distances)]].any() for where, distances in found], dtype=bool)

    def _is_same(self, distances: Floats) -> bool:
        return bool(self._same(distances)[0])

    def _same(self, distances: Floats) -> npt.NDArray[np.bool_]:
        """Which of the nearest training structures a structure is, by the distances to them."""
        if self.points.shape[1] < MIN_DIMS:
            return np.zeros(len(distances), dtype=bool)
        return np.asarray(distances < SAME_STRUCTURE * self._median_distance)

    @cached_property
    def _median_distance(self) -> float:
        return float(np.median(self.quantiles))

    @cached_property
    def _projection(self) -> Floats:
        return np.ascontiguousarray(self.projection, dtype=np.float64)

    @cached_property
    def _index_of_id(self) -> dict[str, int]:
        return {name: i for i, name in reversed(list(enumerate(self.ids)))}

    @cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours(self.points)

    def save(self, path: Path | str) -> None:
        """Write one safetensors file; ids and names are UTF-8 text in tensors of bytes, one per line."""
        tensors: dict[str, npt.NDArray[Any]] = {
            "mean": self.mean,
            "projection": self.projection,
            "points": self.points,
            "quantiles": self.quantiles,
            "element_counts": self.element_counts,
            "coordination_counts": self.coordination_counts,
            "ids": np.frombuffer("\n".join(self.ids).encode(), dtype=np.uint8),
            "names": np.frombuffer("\n".join(self.names).encode(), dtype=np.uint8),
            "gap_ev": self.gap_ev,
        }
        # safetensors writes the raw memory, so a transposed array would be read in the wrong order.
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        # One entry: safetensors writes several in an order that changes from run to run.
        save_file(tensors, str(path), metadata={FORMAT: f"{self.n_neighbours} neighbours"})
        Path(path).chmod(0o644)

    @classmethod
    def load(cls, path: Path | str) -> "NoveltyIndex":
        """Read an index that `save` wrote.

        Version 1 has no coordination numbers, and version 2 neither names nor gaps.

        Raises:
            ValueError: If the file ``path`` holds no novelty index, has another version, or has parts that do
                not fit together.
        """
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            kind = next((name for name in (FORMAT, *OLD_FORMATS) if name in metadata), None)
            if kind is None:
                raise ValueError(f"{path}: not a {FORMAT}: {metadata}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        tensors.setdefault("coordination_counts", _coordination_counts(()))
        ids, names = (_texts(tensors.pop(name, None)) for name in ("ids", "names"))
        names, gap_ev = _labels(ids, names, tensors.pop("gap_ev", ()))
        if len(tensors["points"]) != len(ids):
            raise ValueError(f"{path}: {len(tensors['points'])} points of {len(ids)} structures")
        n_neighbours = int(metadata[kind].split()[0])
        return cls(**tensors, ids=ids, names=names, gap_ev=gap_ev, n_neighbours=n_neighbours)


def _texts(tensor: npt.NDArray[np.uint8] | None) -> tuple[str, ...]:
    """The lines of a tensor of bytes."""
    return () if tensor is None else tuple(tensor.tobytes().decode().split("\n"))


def _check_lengths(
    ids: Sequence[str],
    atomic_numbers: Sequence[npt.ArrayLike],
    coordination: Sequence[Collection[tuple[int, int]]],
) -> None:
    n = len(ids)
    if len(atomic_numbers) != n:
        raise ValueError(f"{len(atomic_numbers)} structures need as many ids, not {n}")
    if len(coordination) not in (0, n):
        raise ValueError(f"{n} structures need as many lists of coordination, not {len(coordination)}")


def _labels(
    ids: Sequence[str], names: Sequence[str], gap_ev: npt.ArrayLike
) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Names and gaps of structures; empty names and NaN if none are given."""
    found = tuple(names) or ("",) * len(ids)
    gaps = np.asarray(gap_ev, dtype=np.float32)
    gaps = gaps if gaps.size else np.full(len(ids), np.nan, dtype=np.float32)
    if len(found) != len(ids) or gaps.shape != (len(ids),):
        raise ValueError(f"{len(ids)} structures need as many names and gaps: {len(found)}, {gaps.shape}")
    if any("\n" in text for text in (*ids, *found)):
        raise ValueError("ids and names must be on one line each")
    return found, gaps


def fit_novelty(
    features: npt.ArrayLike,
    atomic_numbers: Sequence[npt.ArrayLike],
    ids: Sequence[str],
    *,
    coordination: Sequence[Collection[tuple[int, int]]] = (),
    names: Sequence[str] = (),
    gap_ev: npt.ArrayLike = (),
    n_dims: int = 128,
    n_neighbours: int = 3,
) -> NoveltyIndex:
    """Index a training set.

    A feature that does not vary over the training structures is ignored. Unseen elements, which may change
    it, are found by the element counts. The defaults of ``n_dims`` and ``n_neighbours`` recognise structures
    of a metal without training data (``python -m benchmarks.novelty --dims 24 64 128 256 --neighbours 1 3
    10``). More dimensions recognise them better, but take more time and memory.

    Args:
        features: Frozen features of the training structures, shape (n_train, d).
        atomic_numbers: Their atoms, n_train arrays of shape (n_atoms,).
        ids: Their identifiers, length n_train, without line feeds.
        coordination: For each of them, the pairs of atomic number and number of neighbours of its atoms;
            may be left out.
        names: Their refcodes or common names, empty if there is none; may be left out.
        gap_ev: Their labels, eV, shape (n_train,), NaN if there is none; may be left out.
        n_dims: Number of principal components; at most that of the features.
        n_neighbours: Number of nearest training structures whose mean distance is taken.

    Raises:
        ValueError: If the shapes do not fit, a feature is not finite, or the features are all constant.
        ValueError: If there are not more than ``n_neighbours`` structures.
        ValueError: If an id or name has a line feed, or an atomic number is not in 1 to 118.
    """
    _check_lengths(ids, atomic_numbers, coordination)
    rows = _checked(features, len(ids))
    names, gaps = _labels(ids, names, gap_ev)
    if n_neighbours < 1 or n_dims < 1 or len(rows) <= n_neighbours:
        raise ValueError(f"cannot take {n_neighbours} neighbours in {n_dims} dims of {len(rows)} structures")
    mean, projection = (each.astype(np.float32) for each in whitening(rows, n_dims))
    if not projection.size:
        raise ValueError("the features do not vary over the training structures")
    points = ((rows - mean) @ projection.astype(np.float64)).astype(np.float16)
    own = Neighbours(points).own_distances(n_neighbours).mean(axis=1)
    counts = np.zeros(N_ELEMENTS + 1, dtype=np.int32)
    for numbers in atomic_numbers:
        counts[_elements(numbers)] += 1
    quantiles = np.quantile(own, np.linspace(0, 1, 1001)).astype(np.float32)
    described = mean, projection, points, quantiles, counts, _coordination_counts(coordination)
    return NoveltyIndex(*described, tuple(ids), names, gaps, n_neighbours)


def _coordination_counts(coordination: Sequence[Collection[tuple[int, int]]]) -> npt.NDArray[np.int32]:
    """(119, 17) number of structures by atomic number and number of neighbours, last column 16 or more."""
    counts = np.zeros((N_ELEMENTS + 1, MAX_COORDINATION + 1), dtype=np.int32)
    for each in coordination:
        _elements([z for z, _ in each])
        for z, n in {(z, min(n, MAX_COORDINATION)) for z, n in each}:
            counts[z, n] += 1
    return counts


def _checked(features: npt.ArrayLike, n: int) -> Floats:
    rows = np.ascontiguousarray(features, dtype=np.float64)
    if rows.ndim != 2 or len(rows) != n:
        raise ValueError(f"features of {n} structures must have the shape (n, d), not {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("a feature is NaN or infinite")
    return rows


def _elements(atomic_numbers: npt.ArrayLike) -> npt.NDArray[np.intp]:
    elements = np.unique(np.asarray(atomic_numbers, dtype=np.intp))
    if len(elements) and not 1 <= elements[0] <= elements[-1] <= N_ELEMENTS:
        raise ValueError(f"atomic numbers must lie between 1 and {N_ELEMENTS}: {elements}")
    return elements
