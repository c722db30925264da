from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import TableError
from mofgap.crystals.formula import reduced_formula
from mofgap.crystals.write import write_cif
from mofgap.training.labels import Labels, read_labels
from tests.training.conftest import METALS, spaced

Study = Callable[..., tuple[Path, Path]]


def deal(labels: Labels) -> dict[str, str]:
    return dict(zip(labels.frame.structure_id, labels.frame.split, strict=True))


def test_an_unknown_split_is_named_beside_an_empty_one(study: Study) -> None:
    path, cifs = study(30, split=["train"] * 20 + ["val"] * 8 + [None, "tset"])
    with pytest.raises(TableError, match=r"split .*train, val, test.*'nan'"):
        read_labels(path, cifs, "gap_ev")


def test_the_deal_of_splits_is_stable(study: Study) -> None:
    path, cifs = study(n=200)
    all_of_them = deal(read_labels(path, cifs, "gap_ev"))
    for name in sorted(all_of_them)[::3]:
        (cifs / f"{name}.cif").unlink()
    fewer = deal(read_labels(path, cifs, "gap_ev"))
    assert len(fewer) == 133
    assert fewer.items() < all_of_them.items()
    shares = pd.Series(all_of_them).value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.8, abs=0.08)
    assert shares["val"] == pytest.approx(0.1, abs=0.07)
    assert deal(read_labels(path, cifs, "gap_ev", seed=1)) != fewer


def test_few_structures_all_go_to_train(study: Study) -> None:
    path, cifs = study(n=200)
    assert len(read_labels(path, cifs, "gap_ev", few=201).positions("train")) == 200
    assert deal(read_labels(path, cifs, "gap_ev", few=200)) == deal(read_labels(path, cifs, "gap_ev"))
    path, cifs = study(split=["train"] * 29 + ["val"])
    assert read_labels(path, cifs, "gap_ev", few=201).positions("val") == [29]


def test_all_rows_go_to_train_whatever_their_split(study: Study) -> None:
    path, cifs = study(split=["train", "val", "other"] * 10)
    assert read_labels(path, cifs, "gap_ev", all_rows=True).positions("train") == list(range(30))


def test_a_column_of_splits_is_kept(study: Study) -> None:
    given: list[object] = ["test", "val", "train"] * 10
    path, cifs = study(split=["train"] * 29 + ["val"], by_family=given)
    assert read_labels(path, cifs, "gap_ev").positions("val") == [29]
    labels = read_labels(path, cifs, "gap_ev", split_column="by_family")
    assert labels.frame.split.tolist() == given


def test_splits_are_not_looked_at_where_none_is_needed(study: Study) -> None:
    path, cifs = study(split=["valid"] * 30)
    assert len(read_labels(path, cifs, "gap_ev", needed=()).frame) == 30


def test_a_deal_is_the_same_for_a_table_and_for_a_folder_of_cifs(study: Study, tmp_path: Path) -> None:
    """Pairs share a formula, and other pairs a refcode family."""
    refcodes = [f"AAAA{chr(65 + i // 20)}{chr(65 + i // 2 % 10)}{i % 2:02d}" for i in range(60)]
    path, cifs = study(names=[f"mof-{i:03d}" for i in range(60)])
    for i in range(4, 60, 4):
        numbers = np.array([METALS[i // 4 % 10], 34 + i // 40, 6, 1])
        for name in (f"mof-{i:03d}", f"mof-{i - 1:03d}"):
            (cifs / f"{name}.cif").write_text(write_cif(Crystal(np.eye(3) * 8, spaced(i), numbers, "x")))
    table = pd.read_csv(path).rename(columns={"name": "structure_id"})
    table.assign(refcode=refcodes).to_csv(path, index=False)
    joined = read_labels(path, cifs, "gap_ev", needed=())
    joined.frame.drop(columns="split").to_parquet(tmp_path / "table.parquet")
    assert deal(joined) == deal(read_labels(tmp_path / "table.parquet", None, "gap_ev", needed=()))
    frame = joined.frame.assign(
        formula=[reduced_formula(numbers) for numbers in joined.frame.atomic_numbers],
        family=[name[:6] for name in joined.frame.refcode],
    )
    assert frame.groupby("formula").split.nunique().max() == 1
    assert frame.groupby("family").split.nunique().max() == 1
    assert frame.split.nunique() > 1
