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
from mofgap.gap.posterior import DISAGREEMENT, at_mean, fit_correction, posterior
from mofgap.gap.predictor import GapPredictor
from mofgap.training.config import FinetuneConfig
from mofgap.training.start import begin_model
from mofgap.training.unseen import substitute_in
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import NoveltyIndex
from mofgap.whole_file import sha256_of

MakeModel = Callable[..., GapModel]
MakeCrystal = Callable[..., Crystal]


@pytest.fixture
def make_other(make_model: MakeModel) -> MakeModel:
    def make(seed: int = 5) -> GapModel:
        """A network of all weights whose virtual nodes say something."""
        settings = make_model().config.encoder_settings
        other = make_model("full", seed=seed, encoder_settings={**settings, "virtual_node": True})
        assert isinstance(other.encoder, CrystalTransformer)
        for node in other.encoder.virtual:
            torch.nn.init.normal_(node.linear.weight)
        return other

    return make


@pytest.fixture
def three(make_model: MakeModel, make_other: MakeModel) -> GapModel:
    model = make_model()
    for seed in (5, 6):
        model.add_member(make_other(seed))
    return model.requires_grad_(False).eval()


def test_the_gap_is_the_mean_of_all(
    three: GapModel, make_model: MakeModel, make_other: MakeModel, make_crystal: MakeCrystal
) -> None:
    graph = crystal_graph(make_crystal(0), three.graph_config)
    networks = make_model(), make_other(5), make_other(6)
    alone = [posterior(model, graph, samples=0).gap_ev for model in networks]
    assert min(abs(alone[i] - alone[i - 1]) for i in range(3)) > 0.05
    for how in ("closed-form", "weights"):
        found = posterior(three, graph, uncertainty=how, samples=1200)  # type: ignore[arg-type]
        near = 1e-3 if how == "closed-form" else 0.2 * found.epistemic_std_ev[0]
        np.testing.assert_allclose(found.gap_ev, sum(alone) / 3, atol=near)


def test_residuals_are_those_of_the_mean(three: GapModel, make_crystal: MakeCrystal) -> None:
    graphs = [crystal_graph(make_crystal(i), three.graph_config) for i in range(32)]
    gap_ev = np.concatenate([posterior(three, graph, samples=0).gap_ev for graph in graphs])
    fit_correction(three, graphs, torch.tensor(gap_ev + 0.25))
    assert three.correction is not None
    np.testing.assert_allclose(three.correction.residual_ev, 0.25, atol=1e-4)


def test_disagreement_of_the_networks_adds_to_the_distance(
    three: GapModel, make_model: MakeModel, make_other: MakeModel, make_crystal: MakeCrystal
) -> None:
    graphs = [crystal_graph(make_crystal(i), three.graph_config) for i in range(33)]
    fit_correction(three, graphs[:32], torch.linspace(1, 3, 32))
    networks = make_model(), make_other(5), make_other(6)
    gaps = [posterior(model, graphs[32], samples=0).gap_ev[0] for model in networks]
    found, near = posterior(three, graphs[32]), at_mean(three, graphs[32]).correction
    assert near is not None
    expected = np.hypot(float(near.std_ev), DISAGREEMENT * np.std(gaps, ddof=1))
    assert expected > 1.1 * float(near.std_ev)
    assert found.epistemic_std_ev[0] == pytest.approx(expected, rel=0.01)  # members have half precision
    closed = [posterior(model, graphs[32], uncertainty="closed-form") for model in (three, networks[0])]
    assert closed[0].epistemic_std_ev[0] == pytest.approx(
        closed[1].epistemic_std_ev[0]
    )  # the first network's


def test_neighbours_are_found_by_all_networks(three: GapModel, make_crystal: MakeCrystal) -> None:
    graphs = [crystal_graph(make_crystal(i), three.graph_config) for i in range(32)]
    fit_correction(three, graphs, torch.linspace(1, 3, 32))
    assert three.correction is not None
    near = posterior(three, graphs[3]).relative_distance
    torch.nn.init.normal_(three.members[1].head.atom.weight)  # it now sees other structures than were kept
    assert near is not None and posterior(three, graphs[3]).relative_distance[0] > 3 * near[0]  # type: ignore[index]


@pytest.mark.parametrize("version", [7, 8])
def test_a_folder_of_an_older_version_has_one_other_member(
    version: int,
    make_model: MakeModel,
    make_other: MakeModel,
    make_novelty: Callable[[GapModel], NoveltyIndex],
    make_crystal: MakeCrystal,
    tmp_path: Path,
) -> None:
    two = make_model()
    two.add_member(make_other())
    two.requires_grad_(False).eval()
    graphs = [crystal_graph(make_crystal(i), two.graph_config) for i in range(32)]
    fit_correction(two, graphs, torch.linspace(1, 3, 32))
    correction, n_first = two.correction, two.head.hidden.in_features
    assert correction is not None
    if version == 7:
        correction.projection[n_first:] = 0  # as if the other network's features were not there
    correction.points.copy_(correction.points.half())
    save_model(tmp_path, two, About("mine"), Calibration.raw(), make_novelty(two))
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    for name in ("correction.mean", "correction.projection") if version == 7 else ():
        weights[name] = weights[name][:n_first].clone()
    save_file({name.replace("members.0.", "second_network."): w for name, w in weights.items()}, path)
    described = json.loads((tmp_path / "config.json").read_text()) | {"version": version}
    described["sha256"]["model.safetensors"] = sha256_of(path)
    (other,) = described["model"].pop("members")
    del described["digest"], other["members"]
    described["model"]["second_network"] = other | {"second_network": None}
    (tmp_path / "config.json").write_text(json.dumps(described | {"digest": digest(described)}))
    old, now = posterior(read_model(tmp_path)[0], graphs[5]), posterior(two, graphs[5])
    np.testing.assert_array_equal(old.gap_ev, now.gap_ev)
    np.testing.assert_array_equal(old.epistemic_std_ev, now.epistemic_std_ev)


def test_it_comes_back_as_it_was_saved(
    three: GapModel,
    make_novelty: Callable[[GapModel], NoveltyIndex],
    make_crystal: MakeCrystal,
    tmp_path: Path,
) -> None:
    save_model(tmp_path, three, About("mine"), Calibration.raw(), make_novelty(three))
    loaded = read_model(tmp_path)[0]
    assert loaded.config == three.config and len(loaded.members) == 2
    graph = crystal_graph(make_crystal(1), three.graph_config)
    np.testing.assert_array_equal(posterior(loaded, graph).gap_ev, posterior(three, graph).gap_ev)


def test_an_unseen_element_is_read_anew_by_every_network(
    three: GapModel, make_novelty: Callable[[GapModel], NoveltyIndex], tmp_path: Path
) -> None:
    save_model(tmp_path, three, About("mine"), Calibration.raw(), make_novelty(three))
    counts = np.zeros(119, dtype=int)
    counts[[26, 30]] = 1, 20
    substitute_in(tmp_path, counts, {"Ru": ["Fe"]})
    loaded = read_model(tmp_path)[0]
    for network in (loaded, *loaded.members):
        assert network.config.substitutes["Ru"] == {"Fe": 1.0}
        assert network.config.substitutes["Os"] == {"Zn": 1.0}
        for table in network.encoder.element_tables:
            assert torch.equal(table.weight[44], table.weight[26])
            assert not torch.equal(table.weight[44], table.weight[30])


@pytest.mark.parametrize(
    ("level", "of_labels", "kept"),
    [("PBE", "PBE", True), ("PBE", "HSE06", False), (About.level_of_theory, About.level_of_theory, False)],
)
def test_a_training_on_gaps_of_the_same_level_keeps_it(
    three: GapModel,
    make_novelty: Callable[[GapModel], NoveltyIndex],
    tmp_path: Path,
    level: str,
    of_labels: str,
    kept: bool,
) -> None:
    about = About("mine", level_of_theory=level)
    save_model(tmp_path, three, about, Calibration.raw(), make_novelty(three))
    child = begin_model(None, tmp_path, FinetuneConfig(unfreeze=True), of_labels).model
    assert len(child.members) == len(child.config.members) == (2 if kept else 0)
    moved = {name for name, weight in child.named_parameters() if weight.requires_grad}
    assert moved and not any(name.startswith("members") for name in moved)


def test_levels_share_the_encoders_of_their_members(
    three: GapModel,
    make_novelty: Callable[[GapModel], NoveltyIndex],
    make_crystal: MakeCrystal,
    make_model: MakeModel,
    make_other: MakeModel,
) -> None:
    model = make_model(seed=3)
    for seed in (5, 6):
        other = make_other(seed)
        torch.nn.init.normal_(other.head.out.weight)
        model.add_member(other)
    model.requires_grad_(False).eval()
    novelty, crystals = make_novelty(three), [make_crystal(i) for i in range(2)]
    second_level = GapPredictor(model, About("other"), Calibration.raw(), novelty)
    alone = GapPredictor(three, About("mine"), Calibration.raw(), novelty)
    pair = replace(alone, second_level=second_level)
    expected = [p.estimate(crystals).gap_ev for p in (alone, second_level)]
    runs: list[int] = []
    for member in (*three.members, *model.members):
        member.encoder.register_forward_pre_hook(lambda *_: runs.append(0))
        run = member.encoder.run_frozen

        def counted(batch: object, run: Callable[..., object] = run) -> object:
            runs.append(1)
            return run(batch)

        member.encoder.run_frozen = counted
    found = pair.estimate(crystals)
    assert sum(runs) == 2 * len(crystals)
    assert found.second_level is not None
    np.testing.assert_array_equal(found.gap_ev, expected[0])
    np.testing.assert_array_equal(found.second_level.gap_ev, expected[1])


def test_a_virtual_node_feels_neither_cell_nor_batch(three: GapModel, make_crystal: MakeCrystal) -> None:
    other = three.members[0]
    crystal = make_crystal(2)
    doubled = crystal_from(to_ase(crystal).repeat((2, 1, 1)), "doubled")
    graphs = [crystal_graph(c, other.graph_config) for c in (crystal, doubled, make_crystal(3))]
    alone = torch.cat([other(graph)[0] for graph in graphs])
    torch.testing.assert_close(other(collate(graphs))[0], alone, atol=1e-4, rtol=0)
    assert abs(alone[0] - alone[1]) < 1e-4 < abs(alone[0] - alone[2])


def test_what_cannot_be_a_member_is_refused(
    three: GapModel, make_model: MakeModel, make_other: MakeModel
) -> None:
    settings = three.config.encoder_settings
    with pytest.raises(ValueError, match="graphs"):
        make_model().add_member(make_model("full", encoder_settings={**settings, "n_neighbours": 5}))
    with pytest.raises(ValueError, match="member"):
        make_model().add_member(three)
