"""The argument ``model`` of functions in Python."""

from __future__ import annotations

from typing import Any


def given_model(model: Any) -> Any:
    """The model of an estimator such as `GapRegressor`; what is none stays as it was given.

    Raises:
        sklearn.exceptions.NotFittedError: If ``model`` is an estimator without a `fit`.
    """
    if not hasattr(model, "fit"):
        return model
    from sklearn.utils.validation import check_is_fitted  # slow to import

    check_is_fitted(model, "model_")
    return model.model_
