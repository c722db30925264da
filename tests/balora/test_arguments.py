from __future__ import annotations

import torch
from torch import Tensor, nn

from mofgap.balora.arguments import n_inputs_of
from tests.balora.test_wrapper import X, made


def test_what_the_model_is_called_with_may_have_names() -> None:
    model = made().eval()
    expected = model.predict(X)
    for found in (model.predict({"x": X}), model.predict((X,)), model.predict(x=X)):
        torch.testing.assert_close(found, expected)


def test_what_all_inputs_share_is_not_counted_as_inputs() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, shift: Tensor, x: Tensor) -> Tensor:
            y: Tensor = self.last(torch.tanh(self.first(x + shift)))
            return y

    model = made(Shifted(), posterior="constant").eval()
    assert model.predict({"shift": torch.ones(1, 4), "x": X})[1].shape == (6, 2)
    assert n_inputs_of((X[:1], torch.ones(4)), {}) == 1, "a vector says nothing of the inputs"


def test_the_last_layer_may_be_called_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(input=torch.tanh(self.first(x)))
            return y

    assert made(Named())(X).shape == (6, 2)


def test_a_mask_is_not_counted_as_inputs() -> None:
    ids, mask = torch.ones(1, 6), torch.ones(6, 6)
    assert n_inputs_of((), {"input_ids": ids, "attention_mask": mask}) == 1
