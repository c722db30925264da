"""Bayesian low-rank adaptation (BaLoRA, arXiv 2605.08110) for any torch model.

In a dozen lines, with ``net`` a pretrained model, and x, y the data:

>>> from mofgap.balora import BaLoRAConfig, get_balora_model
>>> model = get_balora_model(net, BaLoRAConfig(r=4, target_modules="all-linear"))
>>> optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
>>> for _ in range(100):
...     loss = torch.nn.functional.mse_loss(model(x).squeeze(-1), y)
...     (loss + model.kl_loss(n_train=len(x))).backward()
...     _ = optimizer.step(), optimizer.zero_grad()
>>> mean, std = model.eval().predict(x)

`BaLoRA` and the functions below are the parts. Use them to compute alpha and the rows of each input yourself.
"""

from mofgap.balora.adapt import adapt, adapted_layers, merge, unadapt
from mofgap.balora.adapter_files import load_adapters, load_config, load_noise_network, save_adapters
from mofgap.balora.config import BaLoRAConfig
from mofgap.balora.conv import AdaptedConv2d
from mofgap.balora.embedding import AdaptedEmbedding
from mofgap.balora.layer import AdaptedLayer
from mofgap.balora.linear import AdaptedConv1D, AdaptedLinear
from mofgap.balora.model import BaLoRA
from mofgap.balora.noise import NoiseNetwork
from mofgap.balora.objective import (
    elbo_loss,
    elements_per_layer,
    gaussian_nll,
    kl_divergence,
    kl_per_element,
    laplace_nll,
)
from mofgap.balora.rank import lower_rank
from mofgap.balora.sampling import sampling, without_adapters
from mofgap.balora.several_outputs import JointSensitivity, class_probabilities, joint_sensitivity
from mofgap.balora.variance import Sensitivity, sensitivity
from mofgap.balora.wrap import get_balora_model
from mofgap.balora.wrapper import BaLoRAModel

BaLoraConfig = BaLoRAConfig
"""The same class, spelt as PEFT would."""

__all__ = [
    "AdaptedConv1D",
    "AdaptedConv2d",
    "AdaptedEmbedding",
    "AdaptedLayer",
    "AdaptedLinear",
    "BaLoRA",
    "BaLoRAConfig",
    "BaLoRAModel",
    "BaLoraConfig",
    "JointSensitivity",
    "NoiseNetwork",
    "Sensitivity",
    "adapt",
    "adapted_layers",
    "class_probabilities",
    "elbo_loss",
    "elements_per_layer",
    "gaussian_nll",
    "get_balora_model",
    "joint_sensitivity",
    "kl_divergence",
    "kl_per_element",
    "laplace_nll",
    "load_adapters",
    "load_config",
    "load_noise_network",
    "lower_rank",
    "merge",
    "sampling",
    "save_adapters",
    "sensitivity",
    "unadapt",
    "without_adapters",
]
