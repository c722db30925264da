"""One structure in several rows: found whatever its cell, name and file, and ranked once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.inputs import expand_inputs, read_all
from mofgap.gap.novelty_warnings import is_note
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.duplicates import TOLERANCES, n_duplicates, originals
from mofgap.screening.gather import gather
from mofgap.screening.rank import DUPLICATE, Duplicates, rank_rows
from mofgap.screening.row import Row, warnings_of
from mofgap.screening.screen import stream_rows
from mofgap.screening.shard import Shard

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"


@pytest.fixture(scope="module")
def shipped() -> GapPredictor:
    return load_model("qmof-pbe", "cpu")


def row(name: str, gap_ev: float = 2.0, **others: object) -> Row:
    numbers = {"gap_std_ev": 0.3, "aleatoric_std_ev": 0.1, "epistemic_std_ev": 0.28, "novelty": 0.5}
    texts = {"formula": "C8H4O5Zr", "nearest": "a | b | c"}
    return Row(None, f"{name}.cif", name, "ok", gap_ev=gap_ev, **numbers | texts | others)  # type: ignore[arg-type]


def in_other_words(crystal: Crystal) -> list[Crystal]:
    """The structure in a supercell, in another cell, with other orders and origins, and rounded."""
    rng = np.random.default_rng(0)
    order = rng.permutation(crystal.n_atoms)
    frac = crystal.frac_coords
    doubled = np.concatenate([frac, frac + np.array([1, 0, 0])]) / [2, 1, 1]
    sheared = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]])
    return [
        replace(crystal, cell=crystal.cell * [[2], [1], [1]], frac_coords=doubled,
                atomic_numbers=np.tile(crystal.atomic_numbers, 2)),
        replace(crystal, cell=sheared @ crystal.cell, frac_coords=frac @ np.linalg.inv(sheared)),
        replace(crystal, frac_coords=frac[order] + [0.2, 0.4, 0.7],
                atomic_numbers=crystal.atomic_numbers[order]),
        replace(crystal, frac_coords=np.round(frac, 5)),
    ]  # fmt: skip


def test_a_structure_is_known_in_any_words_and_the_examples_are_all_different(
    shipped: GapPredictor,
) -> None:
    paths = sorted(EXAMPLES.glob("*.cif"))
    (mof5,) = read_all(EXAMPLES / "MOF-5_MIBQAR16.cif")
    assert isinstance(mof5, Crystal)
    copies = [replace(c, structure_id=f"copy-{i}") for i, c in enumerate(in_other_words(mof5))]
    stream = stream_rows([*expand_inputs(paths), *copies], shipped, ScreeningConfig())
    rows = [each for rows in stream for each in rows]
    place = paths.index(EXAMPLES / "MOF-5_MIBQAR16.cif")
    assert originals(rows) == [*range(len(paths)), *[place] * len(copies)]
    table = rank_rows(rows, "low")
    ranks = {each.rank for each in table if each.structure_id.startswith("copy-")}
    assert ranks == {next(each.rank for each in table if "MIBQAR16" in each.structure_id)}
    assert max(each.rank or 0 for each in table) == len(paths)


@pytest.mark.parametrize("name", TOLERANCES)
def test_every_number_tells_structures_apart(name: str) -> None:
    limit = TOLERANCES[name]
    first = row("a")
    value = getattr(first, name)
    assert originals([first, replace(first, **{name: value + limit})]) == [0, 0]
    assert originals([first, replace(first, **{name: round(value + limit + 1e-4, 4)})]) == [0, 1]


def test_composition_and_nearest_structures_tell_structures_apart() -> None:
    others = [row("b", formula="C8H4O5Hf"), row("c", nearest="d | e | f"), row("d", nearest="b | a | c")]
    assert originals([row("a"), *others]) == [0, 1, 2, 0]
    failed = [Row(None, "f.cif", "f", "failed") for _ in range(2)]
    assert originals(failed) == [0, 1]


def test_the_first_is_kept_with_a_note_on_the_others() -> None:
    rows = [row("b", 2.0), row("x", 2.5), row("a", 2.0005), row("c", 2.0, warnings="odd-valence: x")]
    kept = rank_rows(rows, "low")
    assert [(each.rank, each.structure_id) for each in kept] == [(1, "b"), (1, "c"), (1, "a"), (2, "x")]
    assert [[name for name, _ in warnings_of(each.warnings)] for each in kept] == [
        [], ["odd-valence", DUPLICATE], [DUPLICATE], [],
    ]  # fmt: skip
    assert kept[2].warnings == f"{DUPLICATE}: same structure as b.cif" and is_note(kept[2].warnings)
    first = rank_rows(rows, "low", duplicates="first")
    assert [(each.rank, each.structure_id) for each in first] == [(1, "b"), (2, "x")]
    assert "c.cif" in first[0].warnings and "a.cif" in first[0].warnings and not first[1].warnings
    assert n_duplicates(rows) == 2
    with pytest.raises(ValueError, match="duplicates"):
        rank_rows(rows, "low", duplicates="last")  # type: ignore[arg-type]


def test_a_copy_without_a_warning_is_kept_rather_than_one_with() -> None:
    marked = replace(row("a", 1.9998, warnings="composition: x"), status="warning")
    rows = [marked, row("b", 2.0), row("c", 2.0001)]
    (kept,) = rank_rows(rows, "low", duplicates="first")
    assert kept.structure_id == "b" and kept.rank == 1
    assert "a.cif" in kept.warnings and "c.cif" in kept.warnings


def test_a_note_on_training_outlives_the_copy_that_has_it() -> None:
    note = "same-refcode: likely the same compound as x, a training structure"
    rows = [row("a", 2.0), row("b", 2.0, warnings=f"bond-lengths: b | {note}"), row("c", 2.0, warnings=note)]
    (kept,) = rank_rows(rows, "low", duplicates="first")
    assert kept.structure_id == "a"
    assert kept.warnings == f"{note} | {DUPLICATE}: left out the same structure in b.cif, c.cif"


def test_top_counts_structures_not_their_copies() -> None:
    rows = [row("a", 1.0), row("b", 1.0), row("c", 2.0), row("d", 3.0)]
    assert [each.structure_id for each in rank_rows(rows, "low", top=2)] == ["a", "b", "c"]


few = st.sampled_from([1.0, 1.0008, 1.0016, 1.5])
rows_of_few = st.lists(st.builds(row, st.sampled_from("abcdef"), few), max_size=8)


@given(rows_of_few, st.sampled_from(["keep", "first"]), st.randoms(use_true_random=False))
def test_ranks_do_not_depend_on_the_order_of_the_inputs(
    rows: list[Row], duplicates: Duplicates, random: object
) -> None:
    shuffled = random.sample(rows, len(rows))  # type: ignore[attr-defined]
    assert rank_rows(rows, "low", duplicates=duplicates) == rank_rows(shuffled, "low", duplicates=duplicates)


def test_many_copies_take_little_time() -> None:
    rows = [row(str(i)) for i in range(20_000)]
    assert n_duplicates(rows) == len(rows) - 1


def test_joined_rows_are_those_of_a_chain_in_any_order() -> None:
    rng = np.random.default_rng(0)
    chain = [row(f"r{i}", gap_ev=round(1 + 0.0009 * i, 4)) for i in range(40)]
    other = [row(f"o{i}", gap_ev=round(1 + 0.0009 * i, 4), nearest="far") for i in range(40)]
    rows = [*chain, *other]
    for _ in range(3):
        order = rng.permutation(80)
        found = originals([rows[i] for i in order])
        least = [int(np.flatnonzero(order // 40 == part).min()) for part in (0, 1)]
        assert found == [least[i // 40] for i in order]


def test_shards_give_the_same_table(tmp_path: Path) -> None:
    inputs = [(row("a"),), (row("b", 2.0005),), (row("c", 1.0),), (row("d"), row("e", 1.0))]
    header = {"rank_by": "low", "top": None, "novelty": "keep", "duplicates": "first", "coverage": 0.9}
    for index in (1, 2):
        shard = Shard(index, 2)
        taken = list(shard.take([ReadFailure(str(i), "", "") for i in range(4)]))
        shard.write(tmp_path / f"{index}", header, [inputs[int(each.source)] for each in taken])
    with gather([tmp_path / "1", tmp_path / "2"]) as found:
        found.write(tmp_path / "table.csv")
    whole = rank_rows([each for rows in inputs for each in rows], "low", duplicates="first")
    lines = (tmp_path / "table.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in lines] == [[str(each.rank), each.file] for each in whole]
    assert len(lines) == 2
