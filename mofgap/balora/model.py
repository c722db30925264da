"""A model with its adapters and the noise network of Bayesian adapters, as one module."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from mofgap.balora.adapt import adapt, adapted_layers, batches_averaged, merge, unadapt
from mofgap.balora.config import BaLoRAConfig
from mofgap.balora.layer import AdaptedLayer
from mofgap.balora.noise import NoiseNetwork
from mofgap.balora.objective import elements_per_layer, kl_divergence
from mofgap.balora.sampling import sampling, without_adapters
from mofgap.balora.saved import trained_modules
from mofgap.balora.variance import Sensitivity, sensitivity
from mofgap.choices import Noise


class BaLoRA(nn.Module):
    """Any torch model with Bayesian low-rank adapters, or with plain LoRA.

    Args:
        model: The pretrained model; it is frozen and wrapped in place.
        config: Which layers to adapt, and how.
        n_features: Width of the features that alpha(X) is computed from; 0 for LoRA, which has no noise
            network.

    Attributes:
        model: The adapted model.
        balora_config: Which layers were adapted, and how.
        noise_network: alpha(X); None for LoRA.
    """

    def __init__(self, model: nn.Module, config: BaLoRAConfig, n_features: int = 0) -> None:
        super().__init__()
        self.balora_config = config
        layers = adapt(model, config)
        self.model, self.training = model, model.training
        self._batches_before = batches_averaged(model)
        device = next(iter(layers.values())).lora_A.device
        self.noise_network: NoiseNetwork | None = None
        if n_features:
            self.noise_network = NoiseNetwork(
                n_features,
                len(layers),
                hidden=config.noise_hidden,
                initial_alpha=config.initial_alpha or config.prior_variance,
            ).to(device)

    @property
    def config(self) -> Any:
        """The adapted model's own config, as in PEFT; `balora_config` where it has none."""
        return getattr(self.model, "config", self.balora_config)

    @property
    def layers(self) -> dict[str, AdaptedLayer]:
        """The adapted layers by name, in the model's order.

        Raises:
            RuntimeError: If the model has no adapted layers, because they were merged or removed.
        """
        layers = adapted_layers(self.model)
        if not layers:
            raise RuntimeError("the model has no adapters: they were merged into it, or taken off")
        return layers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The adapted model's own forward: its mean, or a sample inside `sampling`."""
        return self.model(*args, **kwargs)

    def alpha(self, features: Tensor) -> Tensor:
        """(n_inputs, n_layers) variance factors from features (n_inputs, n_features); ones for LoRA."""
        if self.noise_network is None:
            return features.new_ones(len(features), len(self.layers))
        alpha: Tensor = self.noise_network(features)
        return alpha

    def kl(self, alpha: Tensor) -> Tensor:
        """(n_inputs,) divergence from the prior, in nats."""
        return kl_divergence(alpha, elements_per_layer(self.layers), self.balora_config.prior_variance)

    def sampling(
        self,
        alpha: Tensor,
        row_to_input: Tensor | None = None,
        *,
        kind: Noise = "weights",
        generator: torch.Generator | None = None,
        input_seeds: Sequence[int] | None = None,
        flipout: bool = True,
    ) -> AbstractContextManager[None]:
        """Run with noise from the posterior; see `mofgap.balora.sampling.sampling`."""
        return sampling(
            self.layers,
            alpha,
            row_to_input,
            kind=kind,
            generator=generator,
            input_seeds=input_seeds,
            flipout=flipout,
        )

    def frozen(self) -> AbstractContextManager[None]:
        """Run as the pretrained model, without the adapters."""
        return without_adapters(self.layers)

    def print_trainable_parameters(self) -> None:
        """Print how many parameters are trained, in the format of PEFT."""
        trained, total = self.get_nb_trainable_parameters()
        share = 100 * trained / total
        words = f"trainable params: {trained:,d} || all params: {total:,d} || trainable%: {share:.4f}"
        sys.stdout.write(words + "\n")

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """Number of trained parameters, and of all parameters."""
        numbers = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return sum(n for n, trained in numbers if trained), sum(n for n, _ in numbers)

    def disable_adapter(self) -> AbstractContextManager[None]:
        """While open, the model is the pretrained one; ``modules_to_save`` are the pretrained ones too."""
        return without_adapters({**self.layers, **trained_modules(self.model)})

    def merge_and_unload(self) -> nn.Module:
        """Add the mean updates to the weights and return the model, without adapters."""
        merge(self.model)
        return self.model

    def unload(self) -> nn.Module:
        """Return the pretrained model, without adapters and with its own ``modules_to_save``.

        A vocabulary that came with an adapter of PEFT stays.
        """
        unadapt(self.model)
        return self.model

    def sensitivity(
        self,
        *args: Any,
        n_inputs: int,
        row_to_input: Tensor | None = None,
        per_row: bool = False,
        n_dims: int = 0,
        **kwargs: Any,
    ) -> Sensitivity:
        """Outputs and first-order sensitivities of a model with one output per input.

        The model is called with ``args`` and ``kwargs``; its output may be (n_inputs,) or (n_inputs, 1).
        The other arguments are those of `mofgap.balora.variance.sensitivity`.

        Raises:
            RuntimeError: If a dropout or batch normalisation layer is in training mode, the model has no
                adapters, or no adapted layer leads to the output.
            TypeError: If the model returns something other than a tensor.
            ValueError: If the output does not hold one number for each input, or ``per_row`` is set without
                ``row_to_input``.
        """
        _check_deterministic(self.model)

        def forward() -> Tensor:
            output = self.model(*args, **kwargs)
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"the model returns {type(output).__name__}, not a tensor: write a function that returns "
                    "the tensor, and give it to mofgap.balora.sensitivity"
                )
            return output.squeeze(-1) if output.ndim == 2 else output

        return sensitivity(forward, self.layers, n_inputs, row_to_input, per_row=per_row, n_dims=n_dims)

    def parameters_to_train(self, noise_lr: float | None = None) -> list[dict[str, Any]]:
        """Parameter groups for an optimiser: unfrozen parameters of the model, then any of the noise.

        Args:
            noise_lr: Learning rate of the parameters of alpha, or of the standard deviations of A where they
                are learned; the optimiser's default when ``None``.
        """
        of_noise = {n: p for n, p in self.named_parameters() if not n.startswith("model.")}
        of_noise |= {n: p for n, p in self.named_parameters() if n.endswith(".lora_log_std")}
        others = [p for n, p in self.named_parameters() if p.requires_grad and n not in of_noise]
        groups: list[dict[str, Any]] = [{"params": others}]
        if of_noise:
            groups.append({"params": [*of_noise.values()], **({} if noise_lr is None else {"lr": noise_lr})})
        return groups


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """While open, a model is in evaluation mode, so that dropout and batch statistics are off."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
        if not torch.compiler.is_compiling():
            torch.clear_autocast_cache()  # torch 2.6 keeps weights there that were cast under no_grad


def _check_deterministic(model: nn.Module) -> None:
    """Refuse modules that make an output random, or dependent on the other inputs of the batch."""
    for name, module in model.named_modules():
        drops = isinstance(module, _DropoutNd) and module.p > 0
        if module.training and (drops or isinstance(module, _BatchNorm)):
            raise RuntimeError(f"{name or 'the model'} is in training mode: call model.eval() first")
