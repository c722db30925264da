from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from mofgap.balora import elements_per_layer, kl_divergence
from mofgap.choices import ADAPTATIONS, Adaptation, Noise
from mofgap.crystals.convert import crystal_from, to_ase
from mofgap.crystals.dataset import table_crystals
from mofgap.crystals.store import build_store
from mofgap.encoders.crystal_transformer import CrystalTransformerConfig
from mofgap.gap.folder import encoder_weights
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.training import finetune as finetune_module
from mofgap.training.batches import loader
from mofgap.training.compute import Compute
from mofgap.training.config import FinetuneConfig
from mofgap.training.finetune import Finetuning, Labelled, finetune, frozen_features, noise_of
from mofgap.training.loop import TrainingError, read_checkpoint

CONFIG = FinetuneConfig(epochs=4, batch_atoms=30, learning_rate=1e-2, encoder_learning_rate=3e-3, seed=2)


@pytest.fixture(scope="module")
def data(tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig) -> Labelled:
    graph = GapModel(GapModelConfig(encoder_settings=asdict(tiny_encoder))).graph_config
    store = build_store(table_crystals(tiny_frame), graph)
    rows = {split: np.flatnonzero(tiny_frame.split == split).tolist() for split in ("train", "val")}
    ids = tiny_frame.structure_id.tolist()
    return Labelled(ids, store, tiny_frame.gap_ev.to_numpy(), rows["train"], rows["val"])


def make_model(method: Adaptation, encoder: CrystalTransformerConfig, weights: Path) -> GapModel:
    torch.manual_seed(1)
    config = GapModelConfig(method=method, encoder_settings=asdict(encoder), head_hidden=16, rank=2)
    model = GapModel(config)
    encoder_weights(weights, model)
    return model


def run(
    model: GapModel, data: Labelled, folder: Path, config: FinetuneConfig = CONFIG, resume: bool = False
) -> Tensor:
    return finetune(model, data, folder, config, resume=resume, compute=Compute("cpu", progress=False))


def doubled(data: Labelled, frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig) -> Labelled:
    """The structures in cells of twice the size, each atom twice."""
    cells = [
        crystal_from(to_ase(crystal).repeat((2, 1, 1)), crystal.structure_id)
        for crystal in table_crystals(frame)
    ]
    return replace(data, store=build_store(cells, tiny_encoder.graph))


@pytest.mark.parametrize("method", ADAPTATIONS)
def test_equal_atoms_are_trained_once_to_the_same_effect(
    tmp_path: Path,
    method: Adaptation,
    data: Labelled,
    tiny_frame: pd.DataFrame,
    tiny_encoder: CrystalTransformerConfig,
    encoder_file: Path,
) -> None:
    whole = doubled(data, tiny_frame, tiny_encoder)
    once = whole.without_repeats()
    assert torch.equal(2 * once.store.n_atoms, whole.store.n_atoms)
    heads = []
    for name, each in (("whole", whole), ("once", once)):
        model = make_model(method, tiny_encoder, encoder_file)
        run(model, each, tmp_path / name, replace(CONFIG, batch_atoms=60))
        heads.append(model.head.out.weight)
    torch.testing.assert_close(heads[1], heads[0], atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("method", ADAPTATIONS)
def test_the_error_falls_and_what_is_frozen_stays(
    tmp_path: Path,
    method: Adaptation,
    data: Labelled,
    tiny_encoder: CrystalTransformerConfig,
    encoder_file: Path,
) -> None:
    model = make_model(method, tiny_encoder, encoder_file)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run(model, data, tmp_path)
    log = pd.read_csv(tmp_path / "metrics.csv")
    assert log.train_mae_ev.iloc[-1] < 0.9 * log.train_mae_ev.iloc[0]
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    adapters = {name for name in before if ".lora_" in name}
    assert bool(adapters) == (method != "full")
    assert adapters <= moved
    assert ("backbone.noise_network.network.0.weight" in moved) == (method == "balora")
    of_encoder = "backbone." if method == "full" else "backbone.model."
    base = {name for name in before if name.startswith(of_encoder)} - adapters
    assert moved.isdisjoint(base) == (method != "full")
    gaps = torch.as_tensor(data.gap_ev[list(data.train)], dtype=torch.float32)
    assert model.gap_mean_ev == gaps.mean()
    assert model.gap_std_ev == gaps.std()
    assert not model.training


def test_the_rest_of_the_encoder_moves_where_it_may(
    tmp_path: Path, data: Labelled, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    model = make_model("balora", tiny_encoder, encoder_file)
    for weight in model.unadapted():
        weight.requires_grad_()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    features = run(model, data, tmp_path, replace(CONFIG, unfreeze=True))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert {f"backbone.model.{name}.weight" for name in ("element", "blocks.0.bond", "norm")} <= moved
    assert {name for name in before if ".lora_" in name} <= moved
    assert not any(".base." in name for name in moved)
    # The noise network looks at features of the encoder as it has become.
    torch.testing.assert_close(features[:1], model.frozen_features(data.store[0]))


def test_the_encoder_has_a_learning_rate_of_its_own(
    tmp_path: Path, data: Labelled, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    model = make_model("full", tiny_encoder, encoder_file)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run(model, data, tmp_path, replace(CONFIG, encoder_learning_rate=0.0))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all(name.startswith("head.") for name in moved)


@pytest.fixture(scope="module")
def two_blocks(tiny_encoder: CrystalTransformerConfig) -> GapModel:
    """A model of which the last block alone is adapted, so that the first is frozen."""
    encoder = replace(tiny_encoder, n_blocks=2)
    torch.manual_seed(1)
    config = GapModelConfig(
        encoder_settings=asdict(encoder), head_hidden=16, rank=2, target_modules=(r"blocks\.1\.(query|up)",)
    )
    return GapModel(config)


def test_frozen_features_know_no_dropout(data: Labelled, two_blocks: GapModel) -> None:
    encoder = dict(two_blocks.config.encoder_settings) | {"dropout": 0.5}
    model = GapModel(replace(two_blocks.config, encoder_settings=encoder)).train()
    first, second = (finetune_module.frozen_features(model, data.store, 60) for _ in range(2))
    assert torch.equal(first, second)
    assert not finetune_module._keeps(model, data, replace(CONFIG, epochs=2))
    batch = data.store.batch([0])
    assert not torch.equal(model(batch)[0], model(batch)[0])


def test_the_frozen_part_is_computed_once_and_gives_the_same_model(
    tmp_path: Path, data: Labelled, two_blocks: GapModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    run_block = type(two_blocks.encoder).run_block

    def counted(encoder: Any, i: int, *rest: Any) -> Tensor:
        passes.append(i)
        return run_block(encoder, i, *rest)

    monkeypatch.setattr(type(two_blocks.encoder), "run_block", counted)
    found = []
    for name, limit in (("kept", finetune_module.MAX_KEPT_BYTES), ("anew", 0)):
        monkeypatch.setattr(finetune_module, "MAX_KEPT_BYTES", limit)
        model = deepcopy(two_blocks)
        features = run(model, data, tmp_path / name)
        found.append((features, *model.parameters()))
        assert (passes.count(0) < passes.count(1)) == (name == "kept")
        passes.clear()
    torch.testing.assert_close(*found)


def moved_by(
    data: Labelled, folder: Path, encoder: CrystalTransformerConfig, weights: Path, **settings: Any
) -> tuple[set[str], set[str]]:
    """The weights of the noise network and of the adapters that a training without decay moves."""
    model = make_model("balora", encoder, weights)
    network = model.noise_network
    assert network is not None
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run(model, data, folder, replace(CONFIG, weight_decay=0.0, **settings))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    ids = {id(p) for p in network.parameters()}
    noise = {name for name, p in model.named_parameters() if id(p) in ids}
    return noise & moved, {name for name in moved if ".lora_" in name}


def test_the_noise_network_learns_from_the_likelihood(
    tmp_path: Path, data: Labelled, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    noise, _ = moved_by(data, tmp_path, tiny_encoder, encoder_file, kl_weight=0.0)
    assert noise, "without the divergence nothing else could have moved it"


@pytest.mark.parametrize(("rate", "noise_rate"), [(0.0, 1e-2), (1e-2, 0.0)])
def test_the_noise_network_has_a_learning_rate_of_its_own(
    rate: float,
    noise_rate: float,
    tmp_path: Path,
    data: Labelled,
    tiny_encoder: CrystalTransformerConfig,
    encoder_file: Path,
) -> None:
    rates = {"learning_rate": rate, "noise_learning_rate": noise_rate}
    noise, adapters = moved_by(data, tmp_path, tiny_encoder, encoder_file, **rates)
    assert bool(noise) == (noise_rate > 0)
    assert bool(adapters) == (rate > 0)


@pytest.mark.parametrize(("unfreeze", "keeps"), [(False, False), (False, True), (True, False)])
def test_an_interrupted_finetuning_ends_in_the_same_weights(
    tmp_path: Path,
    unfreeze: bool,
    keeps: bool,
    two_blocks: GapModel,
    data: Labelled,
    tiny_encoder: CrystalTransformerConfig,
    encoder_file: Path,
    killed: Any,
) -> None:
    config = replace(CONFIG, unfreeze=unfreeze)

    def begin() -> GapModel:
        model = deepcopy(two_blocks) if keeps else make_model("balora", tiny_encoder, encoder_file)
        for weight in model.unadapted():
            weight.requires_grad_(unfreeze)
        return model

    whole = begin()
    run(whole, data, tmp_path / "whole", config)
    with killed(Finetuning, 2):
        run(begin(), data, tmp_path / "cut", config)
    resumed = begin()
    torch.rand(5)  # a new process finds torch's own generator in another state
    run(resumed, data, tmp_path / "cut", config, resume=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    folders = [tmp_path / name for name in ("whole", "cut")]
    logs = [
        pd.read_csv(folder / "metrics.csv").drop(columns=["seconds", "cpu_seconds"]) for folder in folders
    ]
    pd.testing.assert_frame_equal(*logs)
    first, second = (read_checkpoint(f / "last.ckpt")["state_dict"] for f in folders)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_model_ends_in_its_best_epoch(
    tmp_path: Path, data: Labelled, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    rows = list(data.val)
    for seed in range(5):  # steps that grow ever wilder may end well by chance
        model = make_model("lora", tiny_encoder, encoder_file)
        config = replace(CONFIG, epochs=6, learning_rate=1.0, warmup=1.0, seed=seed)
        run(model, data, tmp_path / str(seed), config)
        logged = pd.read_csv(tmp_path / str(seed) / "metrics.csv").val_mae_ev
        if logged.iloc[-1] > 1.1 * logged.min():
            break
    with torch.no_grad():
        gap, _ = model(data.store.batch(rows))
    mae = np.abs(gap.numpy() - data.gap_ev[rows]).mean()
    assert mae == pytest.approx(logged.min(), rel=1e-4)
    assert logged.iloc[-1] > 1.1 * logged.min()


def test_training_stops_when_validation_no_longer_improves(
    tmp_path: Path, data: Labelled, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    model = make_model("lora", tiny_encoder, encoder_file)
    run(model, data, tmp_path, replace(CONFIG, epochs=30, learning_rate=0.3, patience=2))
    logged = pd.read_csv(tmp_path / "metrics.csv").val_mae_ev
    assert len(logged) < 30
    assert logged.idxmin() == len(logged) - 3


def test_a_training_is_not_started_twice(
    tmp_path: Path, data: Labelled, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    config = replace(CONFIG, epochs=1)
    run(make_model("lora", tiny_encoder, encoder_file), data, tmp_path, config)
    written = (tmp_path / "last.ckpt").read_bytes()
    with pytest.raises(TrainingError, match="holds a training already"):
        run(make_model("lora", tiny_encoder, encoder_file), data, tmp_path, config)
    assert (tmp_path / "last.ckpt").read_bytes() == written


def test_a_checkpoint_that_was_cut_off_is_named(
    tmp_path: Path, data: Labelled, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    config, last = replace(CONFIG, epochs=1), tmp_path / "last.ckpt"
    run(make_model("lora", tiny_encoder, encoder_file), data, tmp_path, config)
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=r"last\.ckpt"):
        run(make_model("lora", tiny_encoder, encoder_file), data, tmp_path, config, resume=True)
    last.unlink()
    run(make_model("lora", tiny_encoder, encoder_file), data, tmp_path, config, resume=True)
    assert len(pd.read_csv(tmp_path / "metrics.csv")) == 1


def test_labels_of_no_use_are_told_before_the_training(
    tmp_path: Path, data: Labelled, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    model = make_model("lora", tiny_encoder, encoder_file)
    same = replace(data, gap_ev=np.full_like(data.gap_ev, 1.5))
    with pytest.raises(TrainingError, match=r"20 .*1\.5 eV"):
        run(model, same, tmp_path)
    with pytest.raises(TrainingError, match=r"3, .*4"):
        run(model, replace(data, train=data.train[:3]), tmp_path)
    run(model, replace(data, train=data.train[:4]), tmp_path)


@pytest.fixture
def step(
    data: Labelled,
    tiny_encoder: CrystalTransformerConfig,
    encoder_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[float, Finetuning, Any]]:
    """The loss of one batch, ten steps into a training, with the module and the batch."""
    monkeypatch.setattr(Finetuning, "global_step", 10)
    monkeypatch.setattr(Finetuning, "log_dict", lambda *args, **kwargs: None)

    def loss(method: Adaptation = "balora", **settings: Any) -> tuple[float, Finetuning, Any]:
        model = make_model(method, tiny_encoder, encoder_file)
        for layer in model.layers.values():
            torch.nn.init.normal_(layer.lora_B)
        features = frozen_features(model, data.store, 30)
        gaps = torch.tensor(data.gap_ev, dtype=torch.float32)
        module = Finetuning(model, features, gaps, replace(CONFIG, **settings), 10)
        batch = next(iter(loader(data.store, data.train, 60, 0)))
        return module.training_step(batch, 0).item(), module, batch

    return loss


def test_the_loss_is_the_weighted_elbo_of_one_sample(
    step: Callable[..., tuple[float, Finetuning, Any]],
) -> None:
    plain, module, batch = step(kl_weight=0.0, error_weighting=0.0)
    with module._posterior(batch, None):
        _, spread, nll = module._likelihood(batch)
    assert plain == pytest.approx(nll.mean().item(), rel=1e-5)
    weighted = step(kl_weight=0.0, error_weighting=0.5)[0]
    relative = (spread / module.model.gap_std_ev).detach() ** 0.5
    assert weighted == pytest.approx((nll * relative).mean().item(), rel=1e-5) != plain
    network, balora = module.model.noise_network, module.model.config.balora
    assert network is not None
    elements = elements_per_layer(module.model.layers)
    alpha = network(module.features[batch.position])
    kl = (kl_divergence(alpha, elements, balora.prior_variance) / elements.sum()).mean().item()
    assert step(kl_weight=200.0, error_weighting=0.0)[0] - plain == pytest.approx(200 * kl, rel=1e-3)


def test_the_loss_is_of_noisy_weights_and_warms_up(
    step: Callable[..., tuple[float, Finetuning, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_weights, module, batch = step(kl_weight=0.0, error_weighting=0.0)
    at_mean = module._likelihood(batch)[2].mean().item()
    of_rows = step(kl_weight=0.0, error_weighting=0.0, noise="rows")[0]
    assert len({of_weights, of_rows, at_mean}) == 3
    again = step(kl_weight=0.0, error_weighting=0.0)[0]
    assert again == of_weights
    monkeypatch.setattr(Finetuning, "global_step", 0)
    first = step(kl_weight=0.0, error_weighting=0.0)[0]
    assert first != of_weights, "every step has a draw of its own"
    assert step(kl_weight=200.0, error_weighting=0.0)[0] == first, "the divergence warms up from nothing"
    monkeypatch.setattr(Finetuning, "global_step", 2)
    plain, half, whole = (
        step(kl_weight=weight, error_weighting=0.0, kl_warmup=share)[0]
        for weight, share in ((0.0, 0.4), (200.0, 0.4), (200.0, 0.2))
    )
    assert half - plain == pytest.approx((whole - plain) / 2, rel=1e-3) != 0


def test_the_loss_without_a_posterior_is_of_adapters_under_dropout(
    step: Callable[..., tuple[float, Finetuning, Any]],
) -> None:
    dropped, module, batch = step("lora", error_weighting=0.0, dropout=0.5)
    assert dropped != pytest.approx(module._likelihood(batch)[2].mean().item())


def test_noise_of_an_encoder_that_moves_depends_on_its_present_features(
    step: Callable[..., tuple[float, Finetuning, Any]],
) -> None:
    _, module, batch = step(unfreeze=True)
    module.features = torch.full_like(module.features, torch.nan)  # of the encoder before the training
    assert module.training_step(batch, 0).isfinite()


@pytest.mark.parametrize(("method", "noise"), [("balora", "rows"), ("lora", "weights"), ("full", "weights")])
def test_noise_concerns_a_method_that_draws_it(method: Adaptation, noise: Noise) -> None:
    assert noise_of(method, FinetuneConfig(noise="rows")) == noise
