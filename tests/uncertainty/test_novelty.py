import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from mofgap.uncertainty import metrics
from mofgap.uncertainty.novelty import NoveltyIndex, fit_novelty

N, D = 600, 20
MIXING = np.random.default_rng(9).standard_normal((6, D))


def cluster(n: int, seed: int, shift: float = 0.0):
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 6))
    latent[:, 0] += shift
    features = latent @ MIXING + 0.01 * rng.standard_normal((n, D))
    return features.astype(np.float32), [np.array([6, 1, 8, 30, 6])] * n


def names(n: int) -> list[str]:
    return [f"qmof-{i:07x}" for i in range(n)]


@pytest.fixture(scope="module")
def index() -> NoveltyIndex:
    return fit_novelty(*cluster(N, 0), names(N), n_dims=6)


def test_distances_and_neighbours_against_brute_force(index):
    train, _ = cluster(N, 0)
    query, atoms = cluster(40, 1)
    scaler = StandardScaler().fit(train.astype(float))
    pca = PCA(6, whiten=True).fit(scaler.transform(train.astype(float)))
    distances = cdist(pca.transform(scaler.transform(query)), pca.transform(scaler.transform(train)))
    expected = np.sort(distances, axis=1)[:, :3].mean(axis=1)
    found = index.score(query, atoms)
    np.testing.assert_allclose(found.distance, expected, rtol=5e-3)
    assert [ids[0] for ids in found.nearest] == [names(N)[i] for i in distances.argmin(axis=1)]
    assert {len(ids) for ids in found.nearest} == {3}


def test_familiar_structures_spread_over_the_percentiles(index):
    percentile = index.score(*cluster(500, 2)).percentile
    assert np.mean(percentile) == pytest.approx(0.5, abs=0.06)
    assert np.mean(percentile > 0.9) == pytest.approx(0.1, abs=0.05)
    assert (percentile >= 0).all()
    assert (percentile <= 1).all()


@pytest.mark.parametrize("n", [100, 200])
def test_few_training_structures_leave_percentiles_too(n):
    """Whitened in as many dimensions as there are structures, all would be equally far apart."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((300, 400)) * np.geomspace(1, 1e-3, 300)[:, None]
    features = (rng.standard_normal((n + 500, 300)) @ mixing).astype(np.float32)
    few = fit_novelty(features[:n], [np.array([6])] * n, names(n))
    share = few.score(features[n:], [np.array([6])] * 500).percentile
    assert (share > 0.99).mean() < 0.05 and (share == 0).mean() < 0.05
    assert np.subtract(*np.quantile(share, [0.75, 0.25])) > 0.25


def test_novelty_separates_a_shifted_cluster(index):
    near, far = index.score(*cluster(200, 3)), index.score(*cluster(200, 4, shift=6.0))
    label = np.repeat([0, 1], 200)
    assert metrics.auroc(label, np.concatenate([near.distance, far.distance])) > 0.98
    assert np.median(far.percentile) > 0.98


def test_novelty_grows_with_the_shift(index):
    means = [index.score(*cluster(100, 5, shift)).distance.mean() for shift in (0, 2, 4, 8)]
    assert means == sorted(means)


def test_a_training_structure_finds_itself(index):
    found = index.score(*cluster(N, 0))
    assert [ids[0] for ids in found.nearest] == names(N)


def test_structures_of_training_are_told_from_others():
    (train, atoms), (others, _) = cluster(N, 0), cluster(50, 6)
    index = fit_novelty(train, atoms, names(N))
    assert index.in_training(train).all()
    assert not index.in_training(others).any()


def test_the_batch_does_not_matter(index):
    features, atoms = cluster(50, 6)
    together = index.score(features, atoms)
    backwards = index.score(features[::-1], atoms)
    np.testing.assert_array_equal(backwards.distance[::-1], together.distance)
    for i in range(50):
        alone = index.score(features[i : i + 1].copy(), atoms[:1])
        assert alone.distance[0] == together.distance[i]
        assert alone.percentile[0] == together.percentile[i]
        assert alone.nearest[0] == together.nearest[i]


def test_units_of_the_features_do_not_matter(index):
    unit = np.geomspace(1e-3, 1e3, D)
    train, atoms = cluster(N, 0)
    scaled = fit_novelty(train * unit + 5, atoms, names(N), n_dims=6)
    query, query_atoms = cluster(30, 7)
    expected = index.score(query, query_atoms)
    found = scaled.score(query * unit + 5, query_atoms)
    np.testing.assert_allclose(found.distance, expected.distance, rtol=0.02)


def test_unseen_and_rare_elements_are_named():
    features, atoms = cluster(N, 0)
    atoms = [np.array([6, 92])] * 3 + atoms[3:]
    index = fit_novelty(features, atoms, names(N), n_dims=6)
    found = index.score(features[:3], [[6, 1], [6, 92, 92], [6, 94]])
    assert found.rare_elements == ({}, {92: 3}, {94: 0})
    assert found.percentile[2] == 1
    assert found.percentile[0] < 1


def test_coordination_that_training_never_saw_is_named():
    features, atoms = cluster(N, 0)
    seen = [{(30, 4)}] * (N - 2) + [{(30, 4), (30, 6)}, {(40, 20), (118, 2)}]
    index = fit_novelty(features, atoms, names(N), coordination=seen)
    assert index.coordination_counts.shape == (119, 17), "as in files of models that are there already"
    assert index.coordination_counts[30, [4, 6]].tolist() == [N - 1, 1]
    assert index.unseen_coordination({(30, 4), (30, 6), (40, 17)}) == []
    assert index.unseen_coordination({(118, 2), (118, 3)}) == [(118, 3)]
    assert index.unseen_coordination({(40, 8), (30, 7), (30, 6)}) == [(30, 7), (40, 8)]
    assert index.unseen_coordination({(29, 4)}) == [], "whether copper is new is for the elements to say"
    more = index.extended(features[:2], atoms[:2], ["a", names(N)[0]], [{(30, 7)}, {(40, 8)}])
    assert more.unseen_coordination({(40, 8), (30, 7)}) == [(40, 8)]
    blind = fit_novelty(features, atoms, names(N))
    assert blind.unseen_coordination({(30, 11)}) == []


def test_saved_and_loaded_it_scores_the_same(index, tmp_path):
    index.save(tmp_path / "novelty.safetensors")
    loaded = NoveltyIndex.load(tmp_path / "novelty.safetensors")
    before, after = index.score(*cluster(20, 8)), loaded.score(*cluster(20, 8))
    np.testing.assert_array_equal(before.distance, after.distance)
    np.testing.assert_array_equal(before.percentile, after.percentile)
    assert (before.nearest, before.rare_elements) == (after.nearest, after.rare_elements)
    np.testing.assert_array_equal(loaded.coordination_counts, index.coordination_counts)


def test_a_structure_is_known_by_name_and_gap(tmp_path):
    called, gaps = ["SAHYIK", "", "C", "a | b"], [3.441, 0.0, np.nan, 2.0]
    index = fit_novelty(*cluster(4, 0), ["A", "B", "C", "D"], names=called, gap_ev=gaps, n_dims=2)
    index.save(tmp_path / "novelty.safetensors")
    for each in (index, NoveltyIndex.load(tmp_path / "novelty.safetensors")):
        known = [each.known_as(name) for name in each.ids]
        assert known == ["A (SAHYIK, 3.44 eV)", "B (0.00 eV)", "C", "D (a / b, 2.00 eV)"]
    assert index.without_gaps().known_as("A") == "A (SAHYIK)"
    features, atoms = cluster(3, 5)
    longer = index.extended(features, atoms, ["A", "B", "E"], names=["", "X", "Y"], gap_ev=[1.0, np.nan, 3.0])
    assert [longer.known_as(name) for name in "ABE"] == [
        "A (SAHYIK, 1.00 eV)",
        "B (X, 0.00 eV)",
        "E (Y, 3.00 eV)",
    ]
    assert index.known_as("A") == "A (SAHYIK, 3.44 eV)"
    with pytest.raises(ValueError, match="as many names"):
        fit_novelty(*cluster(4, 0), ["A", "B", "C", "D"], names=["A"], n_dims=2)
    with pytest.raises(ValueError, match="one line"):
        fit_novelty(*cluster(4, 0), ["A", "B", "C", "D"], names=["a\nb", "", "", ""], n_dims=2)


def test_an_index_of_which_the_parts_do_not_belong_together_is_refused(index, tmp_path):
    path = tmp_path / "novelty.safetensors"
    index.save(path)
    tensors = load_file(path)
    for name in ("points", "gap_ev", "names"):
        save_file({**tensors, name: tensors[name][:5]}, path, metadata={"novelty index 3": "10 neighbours"})
        with pytest.raises(ValueError, match="structures"):
            NoveltyIndex.load(path)


def test_files_of_version_2_know_no_names(index, tmp_path):
    path = tmp_path / "novelty.safetensors"
    index.save(path)
    tensors = load_file(path)
    del tensors["names"], tensors["gap_ev"]
    save_file(tensors, path, metadata={"novelty index 2": "3 neighbours"})
    old = NoveltyIndex.load(path)
    assert old.known_as(names(N)[5]) == names(N)[5]
    assert old.score(*cluster(20, 8)).nearest == index.score(*cluster(20, 8)).nearest


def test_files_of_version_1_are_read(index, tmp_path):
    path = tmp_path / "novelty.safetensors"
    index.save(path)
    tensors = load_file(path)
    del tensors["coordination_counts"], tensors["names"], tensors["gap_ev"]
    save_file(tensors, path, metadata={"novelty index 1": "3 neighbours"})
    old = NoveltyIndex.load(path)
    np.testing.assert_array_equal(
        old.score(*cluster(20, 8)).percentile, index.score(*cluster(20, 8)).percentile
    )
    assert old.unseen_coordination({(30, 11)}) == []


def test_another_file_or_version_is_refused(index, tmp_path):
    path = tmp_path / "novelty.safetensors"
    index.save(path)
    tensors = load_file(path)
    for metadata in (None, {"novelty index 4": "10 neighbours"}):
        save_file(tensors, path, metadata=metadata)
        with pytest.raises(ValueError, match="not a novelty index 3"):
            NoveltyIndex.load(path)


def test_a_training_set_of_the_real_size_is_small(tmp_path):
    n, d = 16_200, 1152
    rng = np.random.default_rng(0)
    index = NoveltyIndex(
        mean=np.zeros(d, np.float32),
        projection=rng.standard_normal((d, 128)).astype(np.float32),
        points=rng.standard_normal((n, 128)).astype(np.float16),
        quantiles=np.linspace(0, 9, 1001, dtype=np.float32),
        element_counts=np.full(119, 50, np.int32),
        coordination_counts=np.zeros((119, 17), np.int32),
        ids=tuple(names(n)),
        names=tuple(names(n)),
        gap_ev=np.ones(n, np.float32),
        n_neighbours=3,
    )
    path = tmp_path / "novelty.safetensors"
    index.save(path)
    assert path.stat().st_size < 5.3e6


def test_constant_and_few_features_are_no_trouble():
    features, atoms = cluster(N, 0)
    features[:, 3] = 7.0
    index = fit_novelty(features[:, :5], atoms, names(N))
    assert index.points.shape == (N, 4)
    with pytest.raises(ValueError, match="do not vary"):
        fit_novelty(np.ones((N, 3)), atoms, names(N))


def test_no_structures_give_no_scores(index):
    empty = index.score(np.empty((0, D)), [])
    assert (len(empty.percentile), empty.nearest, empty.rare_elements) == (0, (), ())


def test_nonsense_is_refused(index):
    features, atoms = cluster(20, 0)
    with pytest.raises(ValueError, match="shape"):
        index.score(features, atoms[:5])
    with pytest.raises(ValueError, match="columns"):
        index.score(features[:, :3], atoms)
    with pytest.raises(ValueError, match="NaN"):
        index.score(np.where(features > 1, np.nan, features), atoms)
    with pytest.raises(ValueError, match="between 1 and 118"):
        index.score(features[:1], [[0, 6]])
    with pytest.raises(ValueError, match="as many ids"):
        fit_novelty(features, atoms, names(3))
    with pytest.raises(ValueError, match="neighbours"):
        fit_novelty(features[:3], atoms[:3], names(3))


def test_joined_structures_are_found_and_known_names_are_not_added_again(index):
    features, _ = cluster(30, 7, shift=9.0)
    atoms = [np.array([79, 6])] * 30
    ids = [f"mine-{i}" for i in range(29)] + [names(N)[0]]
    with pytest.raises(ValueError, match="one line"):
        index.extended(features, atoms, [*ids[:29], "two\nlines"])
    twice = index.extended(features[[0, 1, 0]], atoms[:3], ["a", "b", "a"])
    assert twice.ids[-2:] == ("a", "b") and len(twice.points) == N + 2
    longer = index.extended(features, atoms, ids)
    assert longer.ids == (*names(N), *ids[:29]) and longer.points.shape == (N + 29, 6)
    assert (longer.element_counts - index.element_counts)[[6, 79]].tolist() == [29, 29]
    before, after = index.score(features, atoms), longer.score(features, atoms)
    assert [found[0] for found in after.nearest[:29]] == ids[:29]
    assert (after.distance < before.distance).all() and index.ids == tuple(names(N))
    again = index.score(*cluster(20, 8))
    np.testing.assert_allclose(longer.score(*cluster(20, 8)).percentile, again.percentile, atol=0.01)


def test_what_belongs_to_other_structures_is_refused(index):
    (features, _), ids = cluster(3, 5), ["a", "b", "c"]
    for wrong in (
        {"atomic_numbers": [[6]]},
        {"atomic_numbers": [[6]] * 4},
        {"coordination": [[(30, 4)]]},
        {"coordination": [[(200, 4)]] * 3},
    ):
        with pytest.raises(ValueError, match=r"need as many|atomic numbers must lie"):
            index.extended(features, **({"atomic_numbers": [[6]] * 3, "ids": ids} | wrong))
        with pytest.raises(ValueError, match=r"need as many|atomic numbers must lie"):
            fit_novelty(features, **({"atomic_numbers": [[6]] * 3, "ids": ids} | wrong), n_neighbours=1)


def test_a_label_is_known_only_of_the_structure_that_has_it():
    """A copy with a label counts beside one without; an index without any label cannot tell."""
    features, atoms = cluster(N, 0)
    index = fit_novelty(features, atoms, names(N), n_dims=10)
    assert index.knows_gap(features[:5]).all()
    gaps = np.full(N, np.nan)
    gaps[2] = 1.0
    some = fit_novelty(features, atoms, names(N), n_dims=10, gap_ev=gaps)
    assert some.knows_gap(features[:4]).tolist() == [False, False, True, False]
    both = some.extended(features[:1], atoms[:1], ["again"], gap_ev=[2.0])
    assert both.knows_gap(features[:4]).tolist() == [True, False, True, False]
    assert not both.knows_gap(cluster(3, 5)[0]).any()
