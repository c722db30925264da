"""Bayesian low-rank adaptation (BaLoRA, arXiv 2605.08110) for any torch model.

In a dozen lines, with ``net`` a pretrained model of one number an input, and x, y the data:

>>> from mofgap.balora import BaLoRA, BaLoRAConfig, elbo_loss, gaussian_nll
>>> model = BaLoRA(net, BaLoRAConfig(target_modules=("0", "2"), rank=4), n_features=x.shape[1])
>>> log_std = torch.zeros((), requires_grad=True)
>>> groups = [*model.parameters_to_train(noise_lr=1e-2), {"params": [log_std]}]
>>> optimizer = torch.optim.Adam(groups, lr=1e-2)
>>> for _ in range(100):
...     alpha = model.alpha(x)
...     with model.sampling(alpha):
...         nll = gaussian_nll(y, model(x).squeeze(-1), log_std)
...         elbo_loss(nll, model.kl(alpha), beta=0.1, normaliser=len(x)).backward()
...     _ = optimizer.step(), optimizer.zero_grad()
>>> result = model.eval().sensitivity(x, n_inputs=len(x))
>>> mean, std = result.output, result.variance(model.alpha(x)).sqrt()
"""

from mofgap.balora.adapt import adapt, adapted_layers, merge, unadapt
from mofgap.balora.adapter_files import load_adapters, load_config, load_noise_network, save_adapters
from mofgap.balora.config import BaLoRAConfig
from mofgap.balora.layer import AdaptedLinear
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
from mofgap.balora.sampling import sampling, without_adapters
from mofgap.balora.variance import Sensitivity, sensitivity

__all__ = [
    "AdaptedLinear",
    "BaLoRA",
    "BaLoRAConfig",
    "NoiseNetwork",
    "Sensitivity",
    "adapt",
    "adapted_layers",
    "elbo_loss",
    "elements_per_layer",
    "gaussian_nll",
    "kl_divergence",
    "kl_per_element",
    "laplace_nll",
    "load_adapters",
    "load_config",
    "load_noise_network",
    "merge",
    "sampling",
    "save_adapters",
    "sensitivity",
    "unadapt",
    "without_adapters",
]
