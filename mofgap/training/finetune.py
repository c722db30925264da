"""Fine-tune a gap model on labelled structures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mofgap.balora import elements_per_layer, kl_divergence, laplace_nll, sampling
from mofgap.balora.dropout import dropout
from mofgap.choices import Adaptation, Noise
from mofgap.crystals.distinct import TOLERANCE_ANGSTROM, distinct_store
from mofgap.crystals.store import GraphStore, StoreBatch
from mofgap.encoders.encoder import FrozenOutputs
from mofgap.gap.model import GapModel
from mofgap.training.batches import loader
from mofgap.training.compute import DEFAULT_COMPUTE, Compute
from mofgap.training.config import FinetuneConfig
from mofgap.training.labels import Labels
from mofgap.training.loop import TrainingError, check_folder, fit, n_steps, restore, seed_step, warmup_cosine

MIN_TRAIN_ROWS = 4
"""Novelty is a mean over three neighbours of a structure among the others."""

STREAM = (1,)
"""Keeps the noise of training apart from draws of a prediction with the same seed."""

MAX_KEPT_BYTES = 2**30
"""Frozen outputs up to this size are kept in memory for all passes: about 10,000 structures of QMOF by the
shipped encoder. Beyond it each pass computes them again."""

MIN_SLOPE_ROWS = 10
MIN_SLOPE, MAX_SLOPE = 0.3, 3.0


@dataclass(frozen=True, eq=False)
class Labelled:
    """Structures with their gaps.

    Attributes:
        ids: Identifier of each structure.
        store: Their graphs.
        gap_ev: (n,) labels.
        train: Positions to learn from.
        val: Positions to choose the epoch and to calibrate by; none where all epochs are to be run.
        n_atoms: (n,) atoms of each structure, by which batches are packed, where the graphs have fewer.
    """

    ids: Sequence[str]
    store: GraphStore
    gap_ev: NDArray[np.float64]
    train: Sequence[int]
    val: Sequence[int]
    n_atoms: Tensor | None = None

    @classmethod
    def of(cls, labels: Labels, store: GraphStore, noise: Noise = "weights") -> Labelled:
        """Labels with the graphs of their rows.

        Atoms that symmetry makes equal come once, unless each atom has its own ``noise``.
        """
        gap_ev = labels.frame[labels.target].to_numpy(dtype=np.float64)
        ids = labels.frame.structure_id.tolist()
        whole = cls(ids, store, gap_ev, labels.positions("train"), labels.positions("val"))
        return whole if noise == "rows" else whole.without_repeats()

    def without_repeats(self) -> Labelled:
        """The same with one atom for all that symmetry makes equal, in the same batches."""
        return replace(
            self, store=distinct_store(self.store, TOLERANCE_ANGSTROM)[0], n_atoms=self.store.n_atoms
        )

    @property
    def target(self) -> Tensor:
        """(n,) float32 labels, eV."""
        return torch.tensor(self.gap_ev, dtype=torch.float32)


def noise_of(method: Adaptation, config: FinetuneConfig) -> Noise:
    """The noise of a training; a method that draws none is trained as with ``weights``."""
    return config.noise if method == "balora" else "weights"


class Finetuning(L.LightningModule):  # type: ignore[misc]
    """Lightning's view of a ``GapModel``.

    Args:
        model: What is trained.
        features: (n_structures, n_features) pooled frozen features; what alpha(X) is computed from.
        gap_ev: (n_structures,) labels.
        config: How to train it.
        total_steps: Steps of the whole training.
        outputs: Frozen outputs of all atoms of the store, see `frozen_outputs`; none to compute them in each
            pass.
    """

    def __init__(
        self,
        model: GapModel,
        features: Tensor,
        gap_ev: Tensor,
        config: FinetuneConfig,
        total_steps: int,
        outputs: Sequence[Tensor] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.features = features
        self.gap_ev = gap_ev
        self.config = config
        self.total_steps = total_steps
        self.outputs = outputs

    @contextmanager
    def _posterior(self, batch: StoreBatch, frozen: FrozenOutputs | None) -> Iterator[Tensor]:
        """Sample the posterior while open; yields the divergence of one mean element, in nats."""
        network = self.model.noise_network
        draw = np.random.SeedSequence(
            [self.config.seed, self.global_step, self.global_rank], spawn_key=STREAM
        )
        generator = torch.Generator().manual_seed(int(draw.generate_state(1)[0]))
        if network is None:
            with dropout(self.model.layers if self.config.dropout else {}, self.config.dropout, generator):
                yield self.gap_ev.new_zeros(())
            return
        if frozen is None:
            features = self.features[batch.position].to(self.device)
        else:
            features = self.model.frozen_features(batch, frozen)
        alpha = network(features)
        elements = elements_per_layer(self.model.layers)
        kl = kl_divergence(alpha, elements, self.model.config.balora.prior_variance) / elements.sum()
        with sampling(
            self.model.layers, alpha, batch.structure_idx, kind=self.config.noise, generator=generator
        ):
            yield kl.mean()

    def _likelihood(
        self, batch: StoreBatch, frozen: FrozenOutputs | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Absolute error in eV, spread in eV and negative log-likelihood in nats, each (n_graphs,)."""
        if frozen is None and self.outputs:
            kept = [output[batch.row].to(self.device) for output in self.outputs]
            frozen = FrozenOutputs(kept, self.model.encoder.embed(batch)[1])
        gap, spread = self.model(batch, frozen)
        target = self.gap_ev[batch.position].to(gap)
        return (gap - target).abs(), spread, laplace_nll(target, gap, spread.log())

    def training_step(self, batch: StoreBatch, batch_idx: int) -> Tensor:
        """One sample of the posterior, one step down the weighted ELBO."""
        seed_step(self, self.config.seed)
        frozen = self.model.encoder.run_frozen(batch) if self.config.unfreeze else None
        with self._posterior(batch, frozen) as kl:
            error, spread, nll = self._likelihood(batch, frozen)
        relative = spread.detach() / self.model.gap_std_ev
        ramp = min(1.0, self.global_step / max(1.0, self.config.kl_warmup * self.total_steps))
        weighted = (nll * relative**self.config.error_weighting).mean()
        loss: Tensor = weighted + self.config.kl_weight * ramp * kl
        size = len(error)
        logged = {"train_mae_ev": error.mean().detach(), "train_kl": kl.detach()}
        self.log_dict(logged, batch_size=size, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: StoreBatch, batch_idx: int) -> None:
        """Error and likelihood of the posterior mean."""
        error, _, nll = self._likelihood(batch)
        logged = {"val_mae_ev": error.mean(), "val_nll": nll.mean()}
        self.log_dict(logged, batch_size=len(error), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW, a learning rate each for adapters and head, encoder and noise network."""
        config, model = self.config, self.model
        adapters = [p for layer in model.layers.values() for p in (layer.lora_A, layer.lora_B)]
        groups = [{"params": [*adapters, *model.head.parameters()], "lr": config.learning_rate}]
        if own := [p for p in model.unadapted() if p.requires_grad]:
            groups.append({"params": own, "lr": config.encoder_learning_rate})
        if model.noise_network is not None:
            noise = list(model.noise_network.parameters())
            groups.append({"params": noise, "lr": config.noise_learning_rate})
        optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        return warmup_cosine(optimizer, self.total_steps, config.warmup)


@torch.no_grad()
def frozen_outputs(model: GapModel, store: GraphStore, batch_atoms: int) -> list[Tensor]:
    """Outputs of the frozen part of the encoder for every atom of a store.

    Args:
        model: Supplies the encoder.
        store: The structures.
        batch_atoms: Atoms computed at once.

    Returns:
        The embedding, then the output of each frozen block: (n_atoms_total, width) each, on the CPU.
    """
    batches = store.batches(range(len(store)), batch_atoms, model.device)
    parts = [[output.cpu() for output in model.encoder.run_frozen(batch).outputs] for batch in batches]
    return [torch.cat(output) for output in zip(*parts, strict=True)]


@torch.no_grad()
def frozen_features(
    model: GapModel, store: GraphStore, batch_atoms: int, outputs: Sequence[Tensor] = ()
) -> Tensor:
    """Pooled features of the frozen encoder for every structure of a store.

    Args:
        model: Supplies the encoder.
        store: The structures.
        batch_atoms: Atoms computed at once.
        outputs: What `frozen_outputs` gave, where it is known.

    Returns:
        (n_structures, n_features) float32 on the CPU.
    """
    parts = []
    for batch in store.batches(range(len(store)), batch_atoms, model.device):
        known = FrozenOutputs([output[batch.row].to(model.device) for output in outputs]) if outputs else None
        parts.append(model.frozen_features(batch, known).cpu())
    return torch.cat(parts)


def finetune(
    model: GapModel,
    data: Labelled,
    folder: Path,
    config: FinetuneConfig,
    *,
    features: Tensor | None = None,
    from_model: bool = False,
    resume: bool = False,
    compute: Compute = DEFAULT_COMPUTE,
) -> Tensor:
    """Fine-tune in place. The model keeps its best epoch on validation; without validation, its last epoch.

    Args:
        model: Pretrained encoder, with fresh adapters and head or with trained ones.
        data: Structures, labels and split.
        folder: Where checkpoints and logs go.
        config: How to train.
        features: Pooled frozen features of all structures, where they are known.
        from_model: The model predicts gaps already: first put them on the line that fits the labels best.
        resume: Go on from the last checkpoint.
        compute: What it runs on.

    Returns:
        (n_structures, n_features) pooled frozen features of all structures.

    Raises:
        TrainingError: If there are too few training structures, their labels are all equal, the training
            diverged, the checkpoint is damaged, or ``folder`` holds a training and ``resume`` is False.
    """
    if not from_model or config.unfreeze:
        _check_labels(data, from_model)
    check_folder(folder, resume=resume)
    outputs = frozen_outputs(model, data.store, config.batch_atoms) if _keeps(model, data, config) else ()
    if features is None:
        features = frozen_features(model, data.store, config.batch_atoms, outputs)
    if not config.epochs:
        model.eval()
        return features
    _set_scales(model, data, features, config, from_model)
    train = loader(data.store, data.train, config.batch_atoms, config.seed, data.n_atoms)
    val = loader(data.store, data.val, config.batch_atoms, None, data.n_atoms) if data.val else None
    steps = n_steps(train, config.epochs, compute)
    module = Finetuning(model, features, data.target, config, steps, outputs)
    best = fit(
        module,
        train,
        val,
        folder,
        epochs=config.epochs,
        monitor="val_mae_ev",
        patience=config.patience,
        resume=resume,
        compute=compute,
    )
    restore(module, best)
    model.cpu().eval()
    if model.config.method == "full" or config.unfreeze:  # the encoder moved
        features = frozen_features(model, data.store, config.batch_atoms)
    return features


def _keeps(model: GapModel, data: Labelled, config: FinetuneConfig) -> bool:
    """Whether the outputs of the frozen part of the encoder are computed once for all passes.

    Its outputs must be the same in each pass, and it must be more than an embedding. The answer depends on
    nothing that a resumed training could find changed.
    """
    encoder = model.encoder
    size = 4 * encoder.width * encoder.n_frozen * int(data.store.ptr[-1])
    same = bool(model.layers) and not config.unfreeze and not encoder.is_random
    return same and config.epochs > 1 and encoder.n_frozen > 1 and size <= MAX_KEPT_BYTES


def _check_labels(data: Labelled, from_model: bool) -> None:
    """Refuse labels that cannot be trained on, before the training starts."""
    n = len(data.train)
    if n < MIN_TRAIN_ROWS:
        raise TrainingError(
            f"too few training structures: {n}, and novelty needs {MIN_TRAIN_ROWS}; give more labels"
        )
    if not from_model:
        refuse_equal(data)


def refuse_equal(data: Labelled) -> None:
    """Refuse training labels that are all equal.

    Raises:
        TrainingError: If they are, and there are enough of them to train a new model.
    """
    n, gap_ev = len(data.train), data.gap_ev[list(data.train)].astype(np.float32)
    if n >= MIN_TRAIN_ROWS and gap_ev.min() == gap_ev.max():
        raise TrainingError(
            f"all {n} training labels are {gap_ev[0]:g} eV: there is nothing to learn; check the column"
        )


def _set_scales(
    model: GapModel, data: Labelled, features: Tensor, config: FinetuneConfig, from_model: bool
) -> None:
    """Set the scales of gaps and features from the training structures."""
    train = list(data.train)
    if from_model:
        _follow_line(model, data, config.batch_atoms)
    else:
        model.gap_mean_ev.copy_(data.target[train].mean())
        model.gap_std_ev.copy_(data.target[train].std())
        if model.noise_network is not None:
            model.noise_network.fit_scale(features[train])
    if config.alpha == "constant" and model.noise_network is not None:
        model.noise_network.ignore_features()


@torch.no_grad()
def _follow_line(model: GapModel, data: Labelled, batch_atoms: int) -> None:
    """Put the scales of a trained model on the least-squares line from its gaps to the training labels.

    Two levels of theory differ by a line to first order. With few labels, or a slope that cannot be meant,
    the line is a shift.
    """
    parts = [model(batch)[0] for batch in data.store.batches(data.train, batch_atoms)]
    predicted = torch.cat(parts).double().numpy()
    labels = data.gap_ev[np.asarray(data.train)]
    slope = 1.0
    if len(labels) >= MIN_SLOPE_ROWS and predicted.std() > 0:
        slope = float(np.cov(predicted, labels, bias=True)[0, 1] / predicted.var())
    if not MIN_SLOPE <= slope <= MAX_SLOPE:
        slope = 1.0
    shift = float(labels.mean() - slope * predicted.mean())
    model.gap_mean_ev.mul_(slope).add_(shift)
    model.gap_std_ev.mul_(slope)
