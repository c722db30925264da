from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.claims import late_block, mofs, pooled
from benchmarks.claims.alphas import HELD_OUT, NEAR
from benchmarks.claims.arms import NEIGHBOURS, collected
from benchmarks.claims.cells import Cells
from benchmarks.claims.config import ClaimsConfig, MofConfig, TrainingConfig
from benchmarks.claims.gap_network import OF_ATOMS, GapNetwork, of_atoms
from benchmarks.claims.methods import METHODS, Choice
from benchmarks.claims.neighbours import DISTANCE, LORA_DISTANCE
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
        | {column: [rng.random(size + 1) for size in sizes] for column in OF_ATOMS}
    )
    frame.to_parquet(path)
    return path


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> ClaimsConfig:
    folder = tmp_path_factory.mktemp("mofs")
    data = MofConfig(
        table=made_up(folder / "table.parquet"),
        cache=folder / "vectors",
        n_val=10,
        n_test=20,
        n_shifted=8,
        withheld=("Zr",),
        width=16,
        n_components=12,
        passes=1,
    )
    return ClaimsConfig(
        name="quick",
        modality="mofs",
        mofs=data,
        training=TrainingConfig(epochs=1, batch=20, tries=1, ranks=(2,), tuning_samples=2),
        methods=("lora", "balora", "full"),
        trainings=1,
        members=2,
        groups=1,
        samples=(1, 2),
        shifted_samples=2,
    )


def test_splits_share_nothing_and_leave_the_public_test_rows_alone(settings) -> None:
    frame = mofs._frame(settings.mofs)
    assert set(frame.split) == {"train", "val"}
    has_zirconium = frame.atomic_numbers.map(lambda numbers: 40 in numbers).to_numpy()
    public, grouped = (mofs._rows(name, settings.mofs) for name in ("public", "grouped"))
    for rows in (public, grouped):
        own = np.concatenate([rows.train, rows.val, rows.test, *rows.shifted.values()])
        assert len(set(own)) == len(own)
    assert set(frame.split[public.train]) == {"train"}
    assert len(public.train) == (frame.split == "train").sum()
    assert len(public.val) == 10
    assert set(frame.split[np.append(public.val, public.test)]) == {"val"}
    assert len(grouped.test) == 20
    assert has_zirconium[grouped.shifted["unseen-elements"]].all()
    assert not has_zirconium[np.concatenate([grouped.train, grouped.val, grouped.test])].any()
    groups = {part: set(frame.group[getattr(grouped, part)]) for part in ("train", "val", "test")}
    assert not groups["test"] & (groups["train"] | groups["val"])
    assert not groups["train"] & groups["val"]


def test_vectors_of_training_structures_have_the_largest_components_first(settings) -> None:
    (vectors,) = mofs.tasks(settings)[0].train.inputs
    assert vectors.shape[1] == 12
    torch.testing.assert_close(vectors.mean(0), torch.zeros(12), rtol=0, atol=1e-3)
    variances = vectors.var(0)
    assert (variances.diff() <= 1e-3).all()
    covariance = vectors.T.cov()
    torch.testing.assert_close(covariance, covariance.diag().diag(), rtol=0, atol=1e-2)


def test_vectors_are_computed_once(settings, monkeypatch) -> None:
    crystals = [Crystal(np.diag([5.0, 6.0, 7.0]), np.zeros((1, 3)), np.array([z])) for z in (6, 8)]
    first = pooled.pooled(crystals, settings.mofs.encoder, settings.mofs.cache)
    monkeypatch.setattr(pooled, "_computed", None)
    again = pooled.pooled(crystals, settings.mofs.encoder, settings.mofs.cache)
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    assert first.shape == (2, 768)
    assert (first[0] != first[1]).any()


def test_pretraining_moves_the_hidden_layers_and_random_weights_do_not_see_it(settings) -> None:
    kept = mofs.pretrained("public", settings.mofs)
    random = mofs.pretrained("public", replace(settings.mofs, pretrained=False))
    assert not torch.equal(kept.hidden[0].weight, random.hidden[0].weight)
    again = mofs.pretrained("public", settings.mofs)
    torch.testing.assert_close(kept.hidden[0].weight, again.hidden[0].weight, rtol=0, atol=0)


def test_numbers_of_atoms_are_told_by_structure() -> None:
    columns = {column: [[0.0, 1.0], [2.0, 4.0], [4.0, 4.0]] for column in OF_ATOMS}
    found = of_atoms(pd.DataFrame(columns))
    assert found.shape == (3, 20)
    means = torch.tensor([0.5, 3.0, 4.0])
    expected = (means - means.mean()) / means.std(correction=0)
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_displaced_atoms_move_by_the_given_length_and_bare_crystals_lose_hydrogen() -> None:
    numbers = np.append(np.full(1900, 6), np.full(100, 1))
    crystal = Crystal(np.diag([5.0, 20.0, 9.0]), np.random.default_rng(0).random((2000, 3)), numbers)
    moved = mofs.displaced(crystal, 0.1, np.random.default_rng(1))
    lengths = ((moved.frac_coords - crystal.frac_coords) @ crystal.cell).std(0)
    np.testing.assert_allclose(lengths, 0.1, rtol=0.1)
    bare = mofs.bare(crystal)
    np.testing.assert_array_equal(bare.frac_coords, crystal.frac_coords[:1900])
    assert set(bare.atomic_numbers) == {6}


def test_a_run_predicts_gaps_with_and_without_neighbours(settings, tmp_path) -> None:
    cells = Cells(tmp_path, settings)
    task, backbone = mofs.tasks(settings)[1], mofs.backbones(settings)["grouped"]
    paths = list(cells.train(task, backbone))
    plain, near = (collected(paths[0].parent, members=2, suffix=suffix) for suffix in ("", NEIGHBOURS))
    ways = {way for way, _ in plain.ways}
    assert {"lora", "ensemble", "laplace", "full", "balora", "balora-closed-form"} <= ways
    assert {DISTANCE, LORA_DISTANCE, HELD_OUT, NEAR} <= ways
    assert {way for way, _ in near.ways} == ways
    own, other = plain.arm("full", 1), near.arm("full", 1)
    assert (own.predicted[..., 0] != other.predicted[..., 0]).any()
    assert (plain.arm("balora-closed-form", 0).epistemic > 0).any()
    assert plain.arm("full", 1, "displaced").labels.tolist() == plain.labels["test"][:8].tolist()


@pytest.fixture(scope="module")
def inside(settings) -> ClaimsConfig:
    """Settings of a run with adapters inside the transformer."""
    data = replace(settings.mofs, network="transformer", splits=("public",))
    return replace(
        settings, mofs=data, methods=("lora", "balora", "balora-rows", "full", "dropout"), at_once=7
    )


def test_without_adapters_the_last_block_gives_what_the_pooled_vectors_give(settings, inside) -> None:
    (pooled_task, _), (task,) = mofs.tasks(settings), mofs.tasks(inside)
    backbone = mofs.backbones(inside)["public"]
    network = backbone.network(2, seed=3)
    plain = mofs.backbones(settings)["public"].network(2, seed=3)
    splits = {"test": task.test, **task.shifted}
    with torch.no_grad():
        for name, split in splits.items():
            other = pooled_task.test if name == "test" else pooled_task.shifted[name]
            torch.testing.assert_close(network(*split.inputs), plain(*other.inputs), rtol=0, atol=5e-3)
            torch.testing.assert_close(backbone.features(*split.inputs), other.inputs[0])


def test_atoms_that_symmetry_makes_equal_count_once(settings) -> None:
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    rocksalt = Crystal(5.6 * np.eye(3), np.concatenate([corners, corners + 0.5]), np.repeat([11, 17], 4))
    fewer = Crystal(rocksalt.cell, rocksalt.frac_coords[:5], rocksalt.atomic_numbers[:5])
    atoms = late_block.atoms_of([[rocksalt, fewer]], settings.mofs.encoder, settings.mofs.cache)
    assert atoms.store.n_atoms.tolist() == [2, 3]
    torch.testing.assert_close(atoms.share, torch.tensor([1 / 2, 1 / 2, 1 / 5, 3 / 5, 1 / 5]))
    perceptron = GapNetwork(768, 16, 1, torch.tensor([0.0, 1.0]))
    network = late_block.LateNetwork(atoms, lambda vectors: vectors, perceptron)
    with torch.no_grad():
        found = network(torch.tensor([0, 1]))
        torch.testing.assert_close(found, perceptron(atoms.vectors), rtol=0, atol=5e-3)


def test_a_draw_in_the_block_is_shared_by_the_atoms_of_a_structure(inside) -> None:
    (task,), backbone = mofs.tasks(inside), mofs.backbones(inside)["public"]
    batch = next(task.test.batches(5))
    rows = backbone.rows(*batch.inputs)
    counts = mofs._frame(inside.mofs).n_atoms.to_numpy()[batch.inputs[0]]
    assert rows.bincount().tolist() == counts.tolist()
    model = METHODS["balora"].network(task, backbone, Choice(1e-3, rank=2), 0)
    model.train()
    model(*batch.inputs)
    noise = model.layers["block.up"].perturbation
    drawn = noise(torch.ones(len(rows), 128), model.layers["block.up"])
    for structure in range(5):
        own = drawn[rows == structure]
        torch.testing.assert_close(own, own[:1].expand_as(own), rtol=0, atol=1e-6)
    assert len(drawn.unique(dim=0)) == 5


def test_a_run_with_adapters_in_the_block_is_judged_by_every_way(inside, tmp_path) -> None:
    cells = Cells(tmp_path, inside)
    (task,), backbone = mofs.tasks(inside), mofs.backbones(inside)["public"]
    paths = list(cells.train(task, backbone))
    plain, near = (collected(paths[0].parent, members=2, suffix=suffix) for suffix in ("", NEIGHBOURS))
    ways = {way for way, _ in plain.ways}
    assert {"lora", "ensemble", "laplace", "balora-rows", "balora-closed-form", DISTANCE} <= ways
    assert {way for way, _ in near.ways} == ways
    assert plain.about["balora"][0]["pass_seconds"] > 0
