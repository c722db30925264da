from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mofgap.balora.adapt import merge
from mofgap.choices import ADAPTATIONS, Adaptation
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import collate, crystal_graph
from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig
from mofgap.encoders.registry import build_encoder
from mofgap.gap.folder import ModelError, encoder_weights
from mofgap.gap.head import pool
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.gap.posterior import posterior, spread_of

MakeModel = Callable[..., GapModel]
MakeCrystal = Callable[..., Crystal]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, make_model: MakeModel) -> Path:
    torch.manual_seed(99)
    encoder = build_encoder("crystal-transformer", make_model().config.encoder_settings)
    path = tmp_path_factory.mktemp("pretrained") / "encoder.safetensors"
    save_file(encoder.state_dict(), path)
    return path


def plain_encoder(model: GapModel, path: Path) -> CrystalTransformer:
    encoder = build_encoder(model.config.encoder, model.config.encoder_settings)
    assert isinstance(encoder, CrystalTransformer)
    encoder.load_state_dict(load_file(path))
    return encoder.eval()


@pytest.mark.parametrize("method", ADAPTATIONS)
def test_a_fresh_model_sees_what_the_pretrained_encoder_sees(
    method: Adaptation, make_model: MakeModel, make_crystal: MakeCrystal, pretrained: Path
) -> None:
    model = GapModel(make_model(method).config).eval()  # B is zero: the identity at the start
    encoder_weights(pretrained, model)
    graph = crystal_graph(make_crystal(0), model.graph_config)
    expected = plain_encoder(model, pretrained)(graph)
    assert torch.equal(model.encoder(graph), expected)


def test_adapters_change_the_output_but_no_frozen_weight(
    make_model: MakeModel, make_crystal: MakeCrystal, pretrained: Path
) -> None:
    model = make_model()
    encoder_weights(pretrained, model)
    graph = crystal_graph(make_crystal(0), model.graph_config)
    expected = plain_encoder(model, pretrained)(graph)
    assert (model.encoder(graph) - expected).abs().max() > 0.1
    below = expected[:, : model.encoder.n_frozen]
    torch.testing.assert_close(model.frozen_features(graph), pool(below.flatten(1), None, 1))
    trained = {name for name, p in model.encoder.named_parameters() if p.requires_grad}
    assert trained == {f"{name}.lora_{part}" for name in model.layers for part in "AB"}


@pytest.mark.parametrize("method", ["lora", "balora"])
def test_the_mean_is_that_of_merged_weights(
    method: Adaptation, make_model: MakeModel, make_crystal: MakeCrystal
) -> None:
    model = make_model(method)
    merged = copy.deepcopy(model)
    merge(merged.encoder)
    assert not any(".lora_" in name for name, _ in merged.named_parameters())
    batch = collate([crystal_graph(make_crystal(i), model.graph_config) for i in range(3)])
    for mine, theirs in zip(model(batch), merged(batch), strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-5)


def test_only_balora_has_an_epistemic_spread(make_model: MakeModel, make_crystal: MakeCrystal) -> None:
    graph = crystal_graph(make_crystal(0), make_model().graph_config)
    found = {method: posterior(make_model(method).requires_grad_(False), graph) for method in ADAPTATIONS}
    assert found["balora"].epistemic_std_ev[0] > 0
    assert all(np.isnan(found[method].epistemic_std_ev).all() for method in ("lora", "full"))
    assert all(f.aleatoric_std_ev[0] > 0 for f in found.values())


def test_samples_spread_about_as_the_closed_form_says(
    make_model: MakeModel, make_crystal: MakeCrystal
) -> None:
    model = make_model().requires_grad_(False)
    assert model.noise_network is not None
    torch.nn.init.constant_(model.noise_network.network[-2].bias, -9.0)  # small noise
    graph = crystal_graph(make_crystal(0), model.graph_config)
    closed = posterior(model, graph, uncertainty="closed-form")
    drawn = posterior(model, graph, uncertainty="weights", samples=600)
    assert drawn.epistemic_std_ev[0] == pytest.approx(closed.epistemic_std_ev[0], rel=0.12)
    assert drawn.gap_ev[0] == pytest.approx(closed.gap_ev[0], abs=0.2 * closed.epistemic_std_ev[0])
    mean_only = posterior(model, graph, samples=0)
    assert mean_only.gap_ev[0] == pytest.approx(closed.gap_ev[0], abs=1e-5)
    assert np.isnan(mean_only.epistemic_std_ev).all()


@pytest.mark.parametrize(
    ("method", "alone", "kinds"),
    [
        ("balora", "closed-form", {"closed-form", "weights", "rows"}),
        ("lora", None, set()),
        ("full", None, set()),
    ],
)
def test_each_model_has_its_spreads_and_refuses_others_by_name(
    method: Adaptation, alone: str | None, kinds: set[str], make_model: MakeModel
) -> None:
    model = make_model(method)
    assert spread_of(model, "auto") == alone
    with pytest.raises(ValueError, match="distance"):
        spread_of(model, "distance")
    model.fit_correction(torch.randn(40, 48), None, torch.randn(40))
    assert spread_of(model, "auto") == spread_of(model, "distance") == "distance"
    for kind in ("closed-form", "weights", "rows"):
        if kind in kinds:
            assert spread_of(model, kind) == kind
        else:
            with pytest.raises(ValueError, match=f"{kind}.*balora.*{method}"):
                spread_of(model, kind)


def test_one_draw_has_no_spread(make_model: MakeModel, make_crystal: MakeCrystal) -> None:
    model = make_model().requires_grad_(False)
    graph = crystal_graph(make_crystal(0), model.graph_config)
    for kind in ("weights", "rows"):
        with warnings.catch_warnings(action="error"):
            found = posterior(model, graph, uncertainty=kind, samples=1)
        assert np.isnan(found.epistemic_std_ev).all()


def test_weights_of_another_encoder_are_refused(
    tmp_path: Path, make_model: MakeModel, pretrained: Path
) -> None:
    weights = load_file(pretrained)
    weights.pop("element.weight")
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"other\.safetensors .*element\.weight"):
        encoder_weights(tmp_path / "other.safetensors", make_model())


def test_what_a_config_leaves_out_is_what_the_first_models_had() -> None:
    config = GapModelConfig()
    assert (config.rank, config.lora_alpha, config.prior_rate) == (8, 16.0, 0.1)
    assert (config.head_hidden, config.noise_hidden) == (128, 64)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="balora, lora, full, not 'bolero'"):
        GapModelConfig(method="bolero")  # type: ignore[arg-type]


def test_what_lies_below_all_adapters_is_fixed(make_crystal: MakeCrystal) -> None:
    settings = {"n_blocks": 3, "width": 16, "n_heads": 2, "n_radial": 8, "edge_width": 8, "ffn_width": 16}
    targets = CrystalTransformer.adapter_targets(CrystalTransformerConfig(**settings), [2])
    config = GapModelConfig(encoder_settings=settings, target_modules=targets)
    model = GapModel(config)
    assert model.encoder.n_frozen == 3
    assert {name.split(".")[1] for name in model.layers} == {"2"}
    graph = crystal_graph(make_crystal(0), model.graph_config)
    before = model.frozen_features(graph)
    with torch.no_grad():
        for layer in model.layers.values():
            layer.lora_B.normal_()
    assert torch.equal(model.frozen_features(graph), before)
    frozen = model.encoder.run_frozen(graph)
    torch.testing.assert_close(model(graph, frozen)[0], model(graph)[0])
