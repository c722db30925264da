"""A model with its posterior, with the calls of PEFT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from mofgap.balora.adapt import adapted_layers, undone_if_it_fails, warn_of_unsaved, warned_of_uncalled
from mofgap.balora.adapter_files import (
    as_saved,
    has_posterior,
    load_adapters,
    load_config,
    load_posterior,
    save_adapters,
    trained_functions,
    vocabulary_of,
)
from mofgap.balora.arguments import call_of, logits_of, n_inputs_of, refuse_cache
from mofgap.balora.config import BaLoRAConfig
from mofgap.balora.features import Callback, FrozenFeatures, checked_width
from mofgap.balora.lock import locked
from mofgap.balora.model import BaLoRA, evaluation_mode
from mofgap.balora.noise import N_FIXED
from mofgap.balora.objective import analytic_alpha, diagonal_kl
from mofgap.balora.rows import InputRows
from mofgap.balora.sampling import noises
from mofgap.balora.saved import trained_modules
from mofgap.balora.several_outputs import (
    JointSensitivity,
    flat_outputs,
    joint_sensitivity,
    probabilities_of,
)


class BaLoRAModel(BaLoRA):
    """A model with Bayesian low-rank adapters that computes alpha(X) itself.

    In training mode a forward is a sample of the posterior, one for each input; in evaluation mode it is the
    posterior mean. The noise of a training forward stays until the next forward, so that gradient
    checkpointing recomputes the same sample.

    Args:
        model: The pretrained model; it is frozen and wrapped in place.
        config: Which layers to adapt, and how.
        features: Computes (n_inputs, n_features) from the model's own arguments, in place of the module that
            the config names; ``n_features`` of the config is then needed.
        rows: Computes ``row_to_input`` of `sampling` from the model's arguments, for a model whose tensors
            hold the rows of all inputs one after the other.

    Raises:
        ValueError: If `mofgap.balora.adapt` raises it, or the width of the features is not known.
    """

    n_seen: Tensor
    _ran = False
    accepts_loss_kwargs = False
    """For the `Trainer` of transformers, which then divides the loss by the number of accumulated batches."""

    def __init__(
        self,
        model: nn.Module,
        config: BaLoRAConfig,
        features: Callback | None = None,
        rows: Callback | None = None,
    ) -> None:
        taken, width = None, config.n_features or 0
        if config.posterior != "network":
            width = 0
        elif features is None:
            taken = FrozenFeatures(model, config)
            width = taken.width
        elif not width:
            raise ValueError("give the width of what features returns as n_features of the config")
        super().__init__(model, config, width)
        self._features, self._taken, self._rows = features, taken, rows
        self._alpha: Tensor | None = None  # torch cannot copy its graph
        self._vocabulary = dict[str, Tensor]()
        start = config.initial_alpha or config.prior_variance
        first = next(iter(self.layers.values())).lora_A
        self.register_buffer("n_seen", torch.zeros((), dtype=torch.int64, device=first.device))
        logs = torch.full((len(self.layers),), start, device=first.device).log()
        self.log_alpha = nn.Parameter(logs) if config.posterior == "constant" else None
        if config.posterior == "diagonal":
            for layer in self.layers.values():
                layer.learn_spread(config.init_scale * (start / layer.lora_A.shape[1]) ** 0.5)

    @locked
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward: a sample in training mode, the mean in evaluation mode."""
        if not self.training:
            return self.model(*args, **kwargs)
        if self._ran or torch.compiler.is_compiling():
            return self._sampled(args, kwargs)
        self._ran = True
        with warned_of_uncalled(self.layers):
            return self._sampled(args, kwargs)

    def _sampled(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The model's output for one sample of each input, whose noise stays."""
        if self._is_certain:
            return self.model(*args, **kwargs)
        if any(layer.sampled is not None for layer in self.layers.values()):
            self._alpha = None  # an open `sampling` has drawn already, with an alpha of its own
            return self.model(*args, **kwargs)
        refuse_cache(args, kwargs)
        learns = torch.is_grad_enabled() or self._alpha is None  # other passes leave `kl_loss` its gradient
        alpha, rows = self._alpha_of(args, kwargs, observe=learns)
        self._alpha = alpha if learns else self._alpha
        kind, flipout = self.balora_config.noise, self.balora_config.flipout
        drawn = noises(self.layers, alpha, rows, kind, flipout=flipout)
        for layer, noise in zip(self.layers.values(), drawn, strict=True):
            layer.perturbation = noise
        return self.model(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of any module; a standardisation that was set stays so in a model that loads it."""
        if self.noise_network is not None and self.noise_network.is_fixed:
            self.n_seen.fill_(N_FIXED)
        return super().state_dict(*args, **kwargs)

    def train(self, mode: bool = True) -> Self:
        """As of any module; evaluation mode ends the sample of the last training forward."""
        self._alpha = None
        for layer in adapted_layers(self.model).values():
            layer.perturbation = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_alpha": None}  # type: ignore[no-untyped-call]

    def kl_loss(self, n_train: int) -> Tensor:
        """The term to add to the mean loss of a batch: beta times the divergence from the prior / n_train.

        Args:
            n_train: Number of training inputs.

        Returns:
            () in nats an input, for the inputs of the last forward in training mode with gradients.

        Raises:
            RuntimeError: If there was no forward pass in training mode yet.
            ValueError: If ``n_train`` is below 1, or differs from that of the config.
        """
        if n_train < 1:
            raise ValueError(f"n_train must be at least 1, got {n_train}")
        if self.balora_config.posterior == "none":
            return torch.zeros((), device=self.n_seen.device)
        if self._alpha is None:
            raise RuntimeError(
                "kl_loss needs a forward in training mode first, outside sampling: call model.train()"
            )
        if self.balora_config.n_train not in (None, n_train):
            raise ValueError(f"n_train is {n_train}, and {self.balora_config.n_train} in the config")
        if self.balora_config.posterior == "diagonal":
            divergence = diagonal_kl(self.layers, self.balora_config.init_scale)
        else:
            divergence = self.kl(self._alpha).sum() / max(1, len(self._alpha))
        return self.balora_config.beta / n_train * divergence

    def __getattr__(self, name: str) -> Any:
        """Attributes that only the adapted model has, such as ``generate``, as in PEFT."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":  # not there yet, or in a pickle
                raise
            if name == "push_to_hub":  # that of the adapted model, whose names no loader knows
                raise AttributeError("push_to_hub: call save_pretrained, then upload its folder") from None
            return getattr(self.model, name)

    @locked
    def predict(self, x: Any = None, *, samples: int = 0, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Mean and epistemic standard deviation of each output, detached.

        Args:
            x: What the model is called with: a tensor, a tuple of arguments or a mapping of named ones.
            samples: Number of samples to estimate from, at least 2, with the config's ``noise``; 0 computes
                the closed form of ``weights`` instead, with a backward pass for each number of an input's
                output.
            **kwargs: More named arguments of the model.

        Returns:
            Two tensors of the shape of the model's output, or of the ``logits`` in it.

        Raises:
            ValueError: If ``samples`` is 1 or negative, or an input has more than 256 outputs in closed form.
            RuntimeError: If the adapters were merged or removed.
            TypeError: If the model returns neither a tensor nor an object with ``logits``.
        """
        if samples:
            if samples < 2:
                raise ValueError(f"samples must be 0 or at least 2, got {samples}")
            drawn = self.sample(x, samples, **kwargs)
            return drawn.mean(0), drawn.std(0)
        if self._is_certain:
            mean = self._certain(x, kwargs)
            return mean, torch.zeros_like(mean)
        mean, covariance, shape = self._closed_form(x, kwargs)
        std = covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
        return mean.view(shape), std.view(shape)

    @locked
    def predict_proba(self, x: Any = None, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Class probabilities and their standard deviations, in closed form, detached.

        The mean uses the probit approximation, the standard deviation the delta method; see
        `mofgap.balora.several_outputs.class_probabilities`.

        Args:
            x: As in `predict`.
            **kwargs: More named arguments of the model.

        Returns:
            Two tensors of the shape of the model's output, whose last axis is the classes; (n_inputs, 1) for
            a model of one logit.

        Raises:
            ValueError, RuntimeError, TypeError: As of `predict`.
        """
        return probabilities_of(*self._closed_form(x, kwargs))

    @locked
    def covariance(self, x: Any = None, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Mean and covariance of an input's outputs in closed form, detached: (n, k) and (n, k, k).

        Args:
            x: As in `predict`.
            **kwargs: More named arguments of the model.

        Raises:
            ValueError, RuntimeError, TypeError: As of `predict`.
        """
        mean, covariance, _ = self._closed_form(x, kwargs)
        return mean, covariance

    @locked
    @torch.no_grad()
    def sample(self, x: Any = None, n: int = 32, *, seed: int | None = None, **kwargs: Any) -> Tensor:
        """Outputs of n samples of the posterior, detached: (n, ...) and then the output's shape.

        Args:
            x: As in `predict`.
            n: Number of samples.
            seed: Seed of the samples; torch's global generator draws without it.
            **kwargs: More named arguments of the model.

        Raises:
            ValueError: If ``n`` is below 1.
            RuntimeError, TypeError: As of `predict`.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        if self._is_certain:
            return torch.stack([self._certain(x, kwargs)] * n)
        args, kwargs = call_of(x, kwargs)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        kind, flipout = self.balora_config.noise, self.balora_config.flipout
        with evaluation_mode(self.model):
            alpha, rows = self._alpha_of(args, kwargs)
            outputs = []
            for _ in range(n):
                with self.sampling(alpha, rows.row_to_input, kind=kind, generator=generator, flipout=flipout):
                    outputs.append(logits_of(self.model(*args, **kwargs)))
        return torch.stack(outputs)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the adapters in the layout of PEFT, and the posterior in separate files of the folder."""
        warn_of_unsaved(self.model, self._batches_before)
        functions = [name for name in ("features", "rows") if getattr(self, f"_{name}") is not None]
        state, trained = self._posterior_state() or None, trained_modules(self.model)
        save_adapters(folder, self.layers, self.balora_config, state, trained, functions, self._vocabulary)

    @classmethod
    def from_pretrained(
        cls,
        model: nn.Module,
        folder: str | Path,
        features: Callback | None = None,
        rows: Callback | None = None,
        config: BaLoRAConfig | None = None,
    ) -> Self:
        """A model with the adapters of a folder, in evaluation mode.

        Of a LoRA adapter of PEFT the mean is loaded. The posterior is then that of a new model, with the
        settings of ``config``; layers, ranks and scales are those of the folder.

        Raises:
            FileNotFoundError: If the folder ``folder`` holds no adapters.
            ValueError: If the adapters or the posterior in ``folder`` do not fit, or ``features`` or ``rows``
                is missing that they were trained with.
        """
        config = load_config(folder, config)
        for name, function in {"features": features, "rows": rows}.items():
            if function is None and name in trained_functions(folder):
                raise ValueError(
                    f"{folder}: trained with a function that gives the {name}; give it as {name}"
                )
        with undone_if_it_fails(model):
            found = cls(model, as_saved(folder, config), features, rows)
            found.balora_config = config
            load_adapters(model, folder)
            found._vocabulary = vocabulary_of(model, folder)
            if has_posterior(folder):
                load_posterior(found._posterior_state(), folder)
                found.n_seen.fill_(N_FIXED)
        return found.eval()

    def _alpha_of(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, observe: bool = False
    ) -> tuple[Tensor, InputRows]:
        """(n_inputs, n_layers) alpha of a batch, and the input of each row."""
        if self.noise_network is not None:
            row_to_input = None if self._rows is None else self._rows(*args, **kwargs)
            features = self._frozen_features(args, kwargs, row_to_input)
            if observe:
                self.n_seen += self.noise_network.update_scale(features, self.n_seen)
            alpha = self.alpha(features)
            return alpha, InputRows(len(alpha), row_to_input)
        rows = self._rows_of(args, kwargs)
        if self.balora_config.posterior == "analytic":
            total = self._joint(args, kwargs, rows)[0].total
            return analytic_alpha(self.layers, self.balora_config, total), rows
        if self.log_alpha is None:
            return torch.ones(rows.n_inputs, len(self.layers), device=self.n_seen.device), rows
        return self.log_alpha.exp().expand(rows.n_inputs, -1), rows

    def _rows_of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> InputRows:
        row_to_input = None if self._rows is None else self._rows(*args, **kwargs)
        n_inputs = n_inputs_of(args, kwargs) if row_to_input is None else int((row_to_input[-1:] + 1).sum())
        return InputRows(n_inputs, row_to_input)

    def _frozen_features(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], row_to_input: Tensor | None
    ) -> Tensor:
        with torch.no_grad(), evaluation_mode(self.model), self.disable_adapter():
            if self._features is not None:  # a function that may use parts of the model
                return checked_width(self._features(*args, **kwargs), self.balora_config.n_features)
            assert self._taken is not None
            return self._taken(self.model, args, kwargs, row_to_input)

    @property
    def _is_certain(self) -> bool:
        """Whether nothing is uncertain: plain LoRA, or the model without its adapters."""
        return self.balora_config.posterior == "none" or not any(x.enabled for x in self.layers.values())

    @torch.no_grad()
    def _certain(self, x: Any, kwargs: Mapping[str, Any]) -> Tensor:
        """The model's one output."""
        args, kwargs = call_of(x, kwargs)
        with evaluation_mode(self.model):
            return logits_of(self.model(*args, **kwargs))

    def _closed_form(self, x: Any, kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, torch.Size]:
        """(n, k) mean outputs, their (n, k, k) covariance, and the shape of the model's output."""
        if self._is_certain:
            output = self._certain(x, kwargs)
            mean = output.flatten(1) if output.ndim > 1 else output[:, None]
            return mean, mean.new_zeros(*mean.shape, mean.shape[1]), output.shape
        args, kwargs = call_of(x, kwargs)
        if self.balora_config.posterior == "analytic":
            found, shape = self._joint(args, kwargs, self._rows_of(args, kwargs))
            alpha = analytic_alpha(self.layers, self.balora_config, found.total)
        else:
            with torch.no_grad():
                alpha, rows = self._alpha_of(args, kwargs)
            found, shape = self._joint(args, kwargs, rows)
        return found.output, found.covariance(alpha), shape

    def _joint(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], rows: InputRows
    ) -> tuple[JointSensitivity, torch.Size]:
        """The closed form of a batch, and the shape of the model's output."""
        shapes: list[torch.Size] = []
        needed = self.balora_config.posterior == "analytic"
        cure = "another posterior" if needed else "predict(x, samples=32)"

        def forward() -> Tensor:
            output = logits_of(self.model(*args, **kwargs))
            shapes.append(output.shape)
            return flat_outputs(output, cure)

        with evaluation_mode(self.model):
            found = joint_sensitivity(forward, self.layers, rows.n_inputs, rows.row_to_input)
        return found, shapes[-1]

    def _posterior_state(self) -> dict[str, Tensor]:
        """Tensors of the posterior but for the adapters, by name; copying into them changes the posterior."""
        if self.noise_network is not None:
            return dict(self.noise_network.state_dict())
        if self.log_alpha is not None:
            return {"log_alpha": self.log_alpha}
        stds = {name: layer.lora_log_std for name, layer in self.layers.items()}
        return {f"{name}.lora_log_std": std for name, std in stds.items() if std is not None}
