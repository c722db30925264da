"""The devices and the precision of a training."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment
from pydantic import Field

from mofgap.configuration import ConfigurationError, schema
from mofgap.training.config import ComputeConfig


@schema
class Compute(ComputeConfig):
    """The devices and the precision that a training uses in this process.

    Raises:
        ConfigurationError: If the device is cuda and torch finds no CUDA device.
    """

    progress: bool = Field(True, description="Print one line per epoch.")
    model: str = Field("", description="Which of several models this is, for these lines.")

    def __post_init__(self) -> None:
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigurationError("cuda was asked for, but torch sees no CUDA device here", key="device")

    @property
    def decisive(self) -> dict[str, str]:
        """Settings that the steps of a training depend on; it is only resumed with the same."""
        return {"number of devices": str(self.processes), "precision": self.precision}

    @property
    def trainer(self) -> dict[str, Any]:
        """The same settings as arguments of Lightning's ``Trainer``."""
        return {
            "accelerator": self.device,
            "devices": self.devices,
            "num_nodes": self.nodes,
            "strategy": self.strategy,
            "precision": self.precision,
            "enable_progress_bar": False,
            "plugins": self._environment,
        }

    @property
    def _environment(self) -> list[LightningEnvironment | SLURMEnvironment]:
        """What starts the processes. Lightning's requeueing would mix checkpoints of different jobs."""
        if self.processes == 1:
            return [LightningEnvironment()]
        return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


DEFAULT_COMPUTE = Compute()
"""One device, the best there is."""
