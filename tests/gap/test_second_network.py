from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mofgap.configuration import digest
from mofgap.crystals.convert import crystal_from, to_ase
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import collate, crystal_graph
from mofgap.encoders.crystal_transformer import CrystalTransformer
from mofgap.gap.folder import About, read_model, save_model
from mofgap.gap.model import GapModel
from mofgap.gap.posterior import fit_correction, posterior
from mofgap.gap.predictor import GapPredictor
from mofgap.training.config import FinetuneConfig
from mofgap.training.start import begin_model
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import NoveltyIndex
from mofgap.whole_file import sha256_of

MakeModel = Callable[..., GapModel]
MakeCrystal = Callable[..., Crystal]


@pytest.fixture
def make_second(make_model: MakeModel) -> Callable[[], GapModel]:
    def make() -> GapModel:
        """A network of all weights whose virtual nodes say something."""
        settings = make_model().config.encoder_settings
        second = make_model("full", seed=5, encoder_settings={**settings, "virtual_node": True})
        assert isinstance(second.encoder, CrystalTransformer)
        for node in second.encoder.virtual:
            torch.nn.init.normal_(node.linear.weight)
        return second

    return make


@pytest.fixture
def both(make_model: MakeModel, make_second: Callable[[], GapModel]) -> GapModel:
    model = make_model()
    model.add_second_network(make_second())
    return model.requires_grad_(False).eval()


def test_the_gap_is_the_mean_of_both(
    both: GapModel, make_model: MakeModel, make_second: Callable[[], GapModel], make_crystal: MakeCrystal
) -> None:
    graph = crystal_graph(make_crystal(0), both.graph_config)
    alone = [posterior(model, graph, samples=0).gap_ev for model in (make_model(), make_second())]
    assert abs(alone[0] - alone[1]) > 0.1
    for how in ("closed-form", "weights"):
        found = posterior(both, graph, uncertainty=how, samples=1200)  # type: ignore[arg-type]
        near = 1e-3 if how == "closed-form" else 0.2 * found.epistemic_std_ev[0]
        np.testing.assert_allclose(found.gap_ev, sum(alone) / 2, atol=near)


def test_residuals_are_those_of_the_mean(both: GapModel, make_crystal: MakeCrystal) -> None:
    graphs = [crystal_graph(make_crystal(i), both.graph_config) for i in range(32)]
    gap_ev = np.concatenate([posterior(both, graph, samples=0).gap_ev for graph in graphs])
    fit_correction(both, graphs, torch.tensor(gap_ev + 0.25))
    assert both.correction is not None
    np.testing.assert_allclose(both.correction.residual_ev, 0.25, atol=1e-4)


def test_neighbours_are_found_by_both_networks(both: GapModel, make_crystal: MakeCrystal) -> None:
    graphs = [crystal_graph(make_crystal(i), both.graph_config) for i in range(32)]
    fit_correction(both, graphs, torch.linspace(1, 3, 32))
    assert both.correction is not None and both.second_network is not None
    near = posterior(both, graphs[3]).relative_distance
    torch.nn.init.normal_(both.second_network.head.atom.weight)  # it now sees other structures than were kept
    assert near is not None and posterior(both, graphs[3]).relative_distance[0] > 3 * near[0]  # type: ignore[index]


def test_a_folder_of_version_7_finds_neighbours_by_the_first_network(
    both: GapModel,
    make_novelty: Callable[[GapModel], NoveltyIndex],
    make_crystal: MakeCrystal,
    tmp_path: Path,
) -> None:
    graphs = [crystal_graph(make_crystal(i), both.graph_config) for i in range(32)]
    fit_correction(both, graphs, torch.linspace(1, 3, 32))
    n_first = both.head.hidden.in_features
    correction = both.correction
    assert correction is not None
    correction.projection[n_first:] = 0  # as if the second network's features were not there
    correction.points.copy_(correction.points.half())
    save_model(tmp_path, both, About("mine"), Calibration.raw(), make_novelty(both))
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    for name in ("correction.mean", "correction.projection"):
        weights[name] = weights[name][:n_first].clone()
    save_file(weights, path)
    described = json.loads((tmp_path / "config.json").read_text()) | {"version": 7}
    described["sha256"]["model.safetensors"] = sha256_of(path)
    del described["digest"]
    (tmp_path / "config.json").write_text(json.dumps(described | {"digest": digest(described)}))
    old, now = posterior(read_model(tmp_path)[0], graphs[5]), posterior(both, graphs[5])
    np.testing.assert_array_equal(old.gap_ev, now.gap_ev)
    np.testing.assert_array_equal(old.epistemic_std_ev, now.epistemic_std_ev)


def test_it_comes_back_as_it_was_saved(
    both: GapModel,
    make_novelty: Callable[[GapModel], NoveltyIndex],
    make_crystal: MakeCrystal,
    tmp_path: Path,
) -> None:
    save_model(tmp_path, both, About("mine"), Calibration.raw(), make_novelty(both))
    loaded = read_model(tmp_path)[0]
    assert loaded.config == both.config and loaded.config.second_network is not None
    graph = crystal_graph(make_crystal(1), both.graph_config)
    np.testing.assert_array_equal(posterior(loaded, graph).gap_ev, posterior(both, graph).gap_ev)


@pytest.mark.parametrize(
    ("level", "of_labels", "kept"),
    [("PBE", "PBE", True), ("PBE", "HSE06", False), (About.level_of_theory, About.level_of_theory, False)],
)
def test_a_training_on_gaps_of_the_same_level_keeps_it(
    both: GapModel,
    make_novelty: Callable[[GapModel], NoveltyIndex],
    tmp_path: Path,
    level: str,
    of_labels: str,
    kept: bool,
) -> None:
    about = About("mine", level_of_theory=level)
    save_model(tmp_path, both, about, Calibration.raw(), make_novelty(both))
    child = begin_model(None, tmp_path, FinetuneConfig(unfreeze=True), of_labels).model
    assert (child.second_network is not None) == (child.config.second_network is not None) == kept
    moved = {name for name, weight in child.named_parameters() if weight.requires_grad}
    assert moved and not any(name.startswith("second_network") for name in moved)


def test_levels_share_the_encoder_of_their_second_networks(
    both: GapModel,
    make_novelty: Callable[[GapModel], NoveltyIndex],
    make_crystal: MakeCrystal,
    make_model: MakeModel,
    make_second: Callable[[], GapModel],
) -> None:
    other = make_model(seed=3)
    second = make_second()
    torch.nn.init.normal_(second.head.out.weight)
    other.add_second_network(second)
    other.requires_grad_(False).eval()
    novelty, crystals = make_novelty(both), [make_crystal(i) for i in range(2)]
    second_level = GapPredictor(other, About("other"), Calibration.raw(), novelty)
    alone = GapPredictor(both, About("mine"), Calibration.raw(), novelty)
    pair = replace(alone, second_level=second_level)
    expected = [p.estimate(crystals).gap_ev for p in (alone, second_level)]
    assert both.second_network is not None and other.second_network is not None
    runs: list[int] = []
    for model in (both, other):
        model.second_network.encoder.register_forward_pre_hook(lambda *_: runs.append(0))
        prepare = model.second_network.encoder.prepare

        def counted(batch: object, prepare: Callable[..., object] = prepare) -> object:
            runs.append(1)
            return prepare(batch)

        model.second_network.encoder.prepare = counted  # type: ignore[method-assign,assignment]
    found = pair.estimate(crystals)
    assert sum(runs) == len(crystals)
    assert found.second_level is not None
    np.testing.assert_array_equal(found.gap_ev, expected[0])
    np.testing.assert_array_equal(found.second_level.gap_ev, expected[1])


def test_a_virtual_node_feels_neither_cell_nor_batch(both: GapModel, make_crystal: MakeCrystal) -> None:
    second = both.second_network
    assert second is not None
    crystal = make_crystal(2)
    doubled = crystal_from(to_ase(crystal).repeat((2, 1, 1)), "doubled")
    graphs = [crystal_graph(c, second.graph_config) for c in (crystal, doubled, make_crystal(3))]
    alone = torch.cat([second(graph)[0] for graph in graphs])
    torch.testing.assert_close(second(collate(graphs))[0], alone, atol=1e-4, rtol=0)
    assert abs(alone[0] - alone[1]) < 1e-4 < abs(alone[0] - alone[2])


def test_what_cannot_be_a_second_network_is_refused(
    both: GapModel, make_model: MakeModel, make_second: Callable[[], GapModel]
) -> None:
    settings = both.config.encoder_settings
    with pytest.raises(ValueError, match="graphs"):
        make_model().add_second_network(make_model("full", encoder_settings={**settings, "n_neighbours": 5}))
    with pytest.raises(ValueError, match="second network"):
        make_model().add_second_network(both)
