"""Base class of encoders: crystal graphs in, atom features out.

An encoder embeds each atom, then passes the features through blocks. BaLoRA adapts linear layers of some
blocks. The blocks below the first adapted one are frozen, and run once for all passes over a batch.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mofgap.crystals.elements import MAX_Z
from mofgap.crystals.graph import CrystalGraph, GraphConfig

MASKED = 0
"""Atomic number that stands for a masked element in pretraining; every encoder has an embedding for it."""


@dataclass(frozen=True)
class EncoderConfig:
    """Settings that all encoders have; an encoder adds others in a subclass. Each has a default.

    Attributes:
        n_blocks: Blocks between the embedding and the last output.
        width: Features of an atom.
        n_neighbours: Neighbours of an atom in the graph.
        cutoff_angstrom: Largest distance of a neighbour.

    Raises:
        ValueError: If a whole number is below 1, or ``cutoff_angstrom`` is not in 1 to 12.
    """

    n_blocks: int = 5
    width: int = 128
    n_neighbours: int = 16
    cutoff_angstrom: float = 6.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(field.default) is int and value < 1:
                raise ValueError(f"{field.name} must be at least 1, not {value}")
        GraphConfig(self.n_neighbours, self.cutoff_angstrom)  # checks its own ranges

    @property
    def graph(self) -> GraphConfig:
        """The graph that the encoder expects."""
        return GraphConfig(self.n_neighbours, self.cutoff_angstrom)


@dataclass(frozen=True)
class FrozenOutputs:
    """Outputs of the frozen part of an encoder, which no adapter changes; all passes over a batch share them.

    Attributes:
        outputs: The frozen outputs, each (n_atoms, width): the embedding, then those of frozen blocks.
        extra: The second value of `Encoder.embed`.
    """

    outputs: list[Tensor]
    extra: Any = None


class Encoder(nn.Module, ABC):
    """Base of all encoders.

    Atoms that symmetry makes equal may come once. So features of an atom depend on its row of the neighbour
    table, and a mean over a structure is `CrystalGraph.mean`.

    A subclass names its ``Config``, its blocks and their adaptable layers, builds its modules, and defines
    `embed` and `run_block`. An encoder that cannot be divided into blocks has one: then the embedding alone
    is frozen.

    Attributes:
        Config: Class of the encoder's settings.
        block_list: Name of the ``nn.ModuleList`` that holds the blocks.
        is_random: Whether training uses dropout, so that two passes over a batch differ.
        adaptable: Names of the ``nn.Linear`` layers of a block that can be adapted. Each is applied to atoms,
            (n_atoms, d_in), never to pairs of atoms: BaLoRA must know which structure a row belongs to.
        config: The settings of this encoder.
        width: Number of features of an atom in one output.
        n_blocks: Number of blocks.
        n_outputs: Number of outputs of an atom: the embedding, and one a block.
        n_frozen: Number of frozen outputs, counted from the first; all of them while no layer is adapted.
        graph_config: The graph that the encoder expects.
    """

    Config: ClassVar[type[EncoderConfig]] = EncoderConfig
    block_list: ClassVar[str] = "blocks"
    adaptable: ClassVar[tuple[str, ...]]
    is_random: bool = False

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.n_blocks = config.n_blocks
        self.n_outputs = self.n_frozen = config.n_blocks + 1
        self.graph_config = config.graph

    @abstractmethod
    def embed(self, batch: CrystalGraph) -> tuple[Tensor, Any]:
        """Compute the input of the first block.

        Args:
            batch: The structures.

        Returns:
            Atom features (n_atoms, width), and other inputs of the blocks, such as features of bonds.
        """

    @abstractmethod
    def run_block(self, i: int, x: Tensor, batch: CrystalGraph, extra: Any) -> Tensor:
        """Run a block.

        Args:
            i: Index of the block, from 0.
            x: (n_atoms, width) output of the previous block, or the embedding.
            batch: The structures.
            extra: The second value of `embed`.

        Returns:
            (n_atoms, width).
        """

    @property
    def element_tables(self) -> list[nn.Embedding]:
        """Tables with one row for each element, which only structures with that element train."""
        tables = (module for module in self.modules() if isinstance(module, nn.Embedding))
        return [table for table in tables if table.num_embeddings == MAX_Z + 1]

    def finish(self, x: Tensor) -> Tensor:
        """Output of the encoder from that of the last block, (n_atoms, width); unchanged by default."""
        return x

    @classmethod
    def adapter_targets(
        cls, config: EncoderConfig, blocks: Iterable[int] | None = None, modules: Iterable[str] | None = None
    ) -> tuple[str, ...]:
        """Patterns of linear layers, for BaLoRA's ``target_modules``.

        Args:
            config: The encoder's settings.
            blocks: Blocks with adapters, counted from 0; all by default.
            modules: Names of their adapted layers, from ``adaptable``; all by default.

        Raises:
            ValueError: If a block or layer of ``blocks`` or ``modules`` does not exist in the encoder, or
                either is empty.
        """
        blocks = range(config.n_blocks) if blocks is None else sorted(blocks)
        modules = cls.adaptable if modules is None else tuple(modules)
        if not blocks or not 0 <= blocks[0] <= blocks[-1] < config.n_blocks:
            asked = ", ".join(map(str, blocks)) or "none"
            raise ValueError(f"the encoder has blocks 0 to {config.n_blocks - 1}, not {asked}")
        wrong = [name for name in modules if name not in cls.adaptable]
        if wrong or not modules:
            had = ", ".join(cls.adaptable)
            raise ValueError(f"a block of the encoder has the layers {had}, not {', '.join(wrong) or 'none'}")
        return (rf"{cls.block_list}\.({'|'.join(map(str, blocks))})\.({_either(modules)})",)

    def freeze_below(self, adapted: Iterable[str]) -> None:
        """Freeze the embedding and the blocks below the first adapted one: sets ``n_frozen``.

        Args:
            adapted: Names of the adapted layers.

        Raises:
            ValueError: If a name in ``adapted`` belongs to no adaptable layer of a block.
        """
        adapted = list(adapted)
        pattern = re.compile(rf"{self.block_list}\.(\d+)\.({_either(self.adaptable)})")
        found = [pattern.fullmatch(name) for name in adapted]
        if wrong := [name for name, match in zip(adapted, found, strict=True) if match is None]:
            can = ", ".join(self.adaptable)
            raise ValueError(f"only {can} of a block can be adapted, not {', '.join(wrong)}")
        self.n_frozen = min((int(match[1]) for match in found if match), default=self.n_blocks) + 1

    def run_frozen(self, batch: CrystalGraph) -> FrozenOutputs:
        """Compute the frozen part of a batch: the embedding, and the outputs of the frozen blocks."""
        x, extra = self.embed(batch)
        return FrozenOutputs(self._through([x], range(self.n_frozen - 1), batch, extra), extra)

    def forward(self, batch: CrystalGraph, frozen: FrozenOutputs | None = None) -> Tensor:
        """Encode the atoms of one structure, or of several side by side.

        Args:
            batch: The structures.
            frozen: Result of `run_frozen` for this batch; None computes it.

        Returns:
            (n_atoms, n_outputs, width): the embedding, and the output of every block.
        """
        frozen = self.run_frozen(batch) if frozen is None else frozen
        others = range(self.n_frozen - 1, self.n_blocks)
        outputs = self._through(list(frozen.outputs), others, batch, frozen.extra)
        return torch.stack([*outputs[:-1], self.finish(outputs[-1])], dim=1)

    def _through(
        self, outputs: list[Tensor], blocks: Iterable[int], batch: CrystalGraph, extra: Any
    ) -> list[Tensor]:
        """Run some blocks and append their outputs."""
        for i in blocks:
            outputs.append(self.run_block(i, outputs[-1], batch, extra))
        return outputs


def _either(names: Iterable[str]) -> str:
    """A regular expression that matches each of some names."""
    return "|".join(map(re.escape, names))
