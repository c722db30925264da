"""Fast products of matrices: float32 all the same, and nobody's choice of precision is overruled."""

from collections.abc import Iterator

import pytest
import torch

from mofgap.encoders import products
from mofgap.encoders.products import fast_products
from mofgap.gap.predictor import load_model


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Each test decides anew; the process goes on as it was."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    products._is_exact.cache_clear()
    yield
    products._is_exact.cache_clear()
    torch.set_float32_matmul_precision(before)


def test_products_stay_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(600, 128, generator=generator), torch.randn(64, 128, generator=generator)
    before = x @ w.T
    with fast_products():
        found = x @ w.T
    # bfloat16 would err by 2e-2.
    torch.testing.assert_close(found, before, rtol=1e-5, atol=1e-4)


def test_a_training_alone_has_them() -> None:
    load_model("qmof-pbe", "cpu")
    assert torch.get_float32_matmul_precision() == "highest"
    with fast_products():
        exact = all(products._is_exact(*shape) for shape in products._SHAPES)
        assert torch.get_float32_matmul_precision() == ("medium" if exact else "highest")
    assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(KeyError), fast_products():
        raise KeyError
    assert torch.get_float32_matmul_precision() == "highest"


def test_rounded_products_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_is_exact", lambda *shape: shape != products._SHAPES[-1])
    with fast_products():
        assert torch.get_float32_matmul_precision() == "highest"


def test_a_chosen_precision_stays() -> None:
    with fast_products():
        pass
    torch.set_float32_matmul_precision("high")
    with fast_products():
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "high"


def test_a_precision_chosen_for_onednn_alone_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuse)
    with fast_products():
        monkeypatch.undo()
        assert torch.get_float32_matmul_precision() == "highest"


def test_cuda_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with fast_products():
        assert torch.get_float32_matmul_precision() == "highest"


def test_exactness_is_told_from_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    assert products._is_exact(16, 64, 64)
    products._is_exact.cache_clear()
    full = torch.full
    monkeypatch.setattr(torch, "full", lambda shape, value: full(shape, value).bfloat16().float())
    assert not products._is_exact(16, 64, 64)
