from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.claims import mofs
from benchmarks.claims.arms import NEIGHBOURS, collected
from benchmarks.claims.cells import Cells
from benchmarks.claims.config import ClaimsConfig, MofConfig, TrainingConfig
from benchmarks.claims.neighbours import DISTANCE
from mofgap.crystals.crystal import Crystal

ELEMENTS = (1, 6, 8, 30)


def made_up(path: Path, n: int = 150) -> Path:
    """A table of random crystals, every fifth with zirconium; two by two they share a family."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(3, 7, n)
    numbers = [np.append(rng.choice(ELEMENTS, size), 40 if i % 5 == 0 else 6) for i, size in enumerate(sizes)]
    letters = [chr(65 + i % 26) + chr(65 + i // 26) for i in range(n)]
    frame = pd.DataFrame(
        {
            "qmof_id": [f"qmof-{i:07d}" for i in range(n)],
            "group": [f"AAAA{letters[i // 2]}" for i in range(n)],
            "split": ["val" if i % 3 == 0 else "test" if i % 10 == 1 else "train" for i in range(n)],
            "n_atoms": sizes + 1,
            "pbe_gap_ev": rng.uniform(0, 4, n),
            "atomic_numbers": numbers,
            "cell_angstrom": [(5 + rng.random(9) * np.eye(3).ravel()) * np.eye(3).ravel() for _ in range(n)],
            "frac_coords": [rng.random(3 * (size + 1)) for size in sizes],
        }
    )
    frame.to_parquet(path)
    return path


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> ClaimsConfig:
    table = made_up(tmp_path_factory.mktemp("mofs") / "table.parquet")
    return ClaimsConfig(
        name="quick",
        modality="mofs",
        mofs=MofConfig(table=table, n_train=45, n_val=10, n_test=20, n_shifted=8, withheld=("Zr",)),
        training=TrainingConfig(epochs=1, batch=20, tries=1, ranks=(2,), tuning_samples=2),
        methods=("lora", "balora", "full"),
        trainings=1,
        members=2,
        groups=1,
        samples=(1, 2),
        most_samples=(),
        shifted_samples=2,
    )


def test_splits_share_nothing_and_leave_the_public_test_rows_alone(settings) -> None:
    table = pd.read_parquet(settings.mofs.table).set_index("qmof_id")
    for name, parts in mofs._splits(settings.mofs).items():
        ids = {part: set(frame.structure_id) for part, frame in parts.items()}
        assert {part: len(own) for part, own in ids.items()} == {
            "train": 45, "val": 10, "test": 20, "unseen-elements": 8,
        }  # fmt: skip
        assert len(set.union(*ids.values())) == 83
        assert not (table.loc[list(set.union(*ids.values()))].split == "test").any()
        has_zirconium = {part: frame.atomic_numbers.map(lambda z: 40 in z) for part, frame in parts.items()}
        assert has_zirconium["unseen-elements"].all()
        assert not any(has_zirconium[part].any() for part in ("train", "val", "test"))
        groups = {part: set(table.loc[list(own)].group) for part, own in ids.items()}
        if name == "grouped":
            assert not groups["test"] & (groups["train"] | groups["val"])
            assert not groups["train"] & groups["val"]
        else:
            assert (table.loc[list(ids["test"])].split == "val").all()
            assert (table.loc[list(ids["train"] | ids["val"])].split == "train").all()


@torch.no_grad()
def test_late_layers_go_on_where_the_frozen_ones_end(settings) -> None:
    from mofgap.crystals.dataset import table_crystals
    from mofgap.crystals.store import build_store

    encoder = mofs._encoder(settings.mofs.encoder)
    frame = mofs._splits(settings.mofs)["public"]["test"]
    store = build_store(list(table_crystals(frame)), encoder.graph_config)
    some = mofs.through_frozen(store, encoder, torch.arange(20.0)).taken(torch.tensor([7, 2, 11]))
    assert len(some) == 3
    assert some.labels.tolist() == [7, 2, 11]
    late = mofs.LateLayers(encoder, torch.arange(20.0))
    taken = []
    late.head.register_forward_pre_hook(lambda _, args: taken.append(args[0]))
    late(*some.inputs)
    whole = encoder(store.batch([7, 2, 11]))
    torch.testing.assert_close(taken[0], whole[:, [-2, -1]], rtol=1e-3, atol=1e-4)


def test_atoms_are_displaced_by_the_given_length() -> None:
    crystal = Crystal(np.diag([5.0, 20.0, 9.0]), np.random.default_rng(0).random((2000, 3)), np.full(2000, 6))
    moved = mofs.displaced(crystal, 0.1, np.random.default_rng(1))
    lengths = ((moved.frac_coords - crystal.frac_coords) @ crystal.cell).std(0)
    np.testing.assert_allclose(lengths, 0.1, rtol=0.1)


def test_a_run_predicts_gaps_with_and_without_neighbours(settings, tmp_path) -> None:
    cells = Cells(tmp_path, settings)
    task, backbone = mofs.tasks(settings)[1], mofs.backbones(settings)["grouped"]
    paths = list(cells.train(task, backbone))
    plain, near = (collected(paths[0].parent, members=2, suffix=suffix) for suffix in ("", NEIGHBOURS))
    ways = {way for way, _ in plain.ways}
    assert {"lora", "ensemble", "laplace", "full", "balora", "balora-closed-form"} <= ways
    assert {way for way, _ in near.ways} == ways | {DISTANCE}
    own, other = plain.arm("full", 1), near.arm("full", 1)
    assert (own.predicted[..., 0] != other.predicted[..., 0]).any()
    assert (plain.arm("balora-closed-form", 0).epistemic > 0).any()
    assert plain.arm("full", 1, "displaced").labels.tolist() == plain.labels["test"][:8].tolist()
