from __future__ import annotations

import pytest

from mofgap.encoders.crystal_transformer import CrystalTransformer
from mofgap.encoders.registry import ENCODERS, build_encoder


def test_an_encoder_is_built_from_its_settings() -> None:
    encoder = build_encoder("crystal_transformer", {"n_blocks": 1, "width": 8, "n_heads": 2})
    assert isinstance(encoder, CrystalTransformer)
    assert encoder.config.width == 8


def test_an_unknown_encoder_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'crystal_transformer'"):
        build_encoder("crystal-transfromer", {})
    with pytest.raises(ValueError, match=f"known: {', '.join(ENCODERS)}"):
        build_encoder("zzz", {})


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="'widht'; did you mean 'width'"):
        build_encoder("crystal_transformer", {"widht": 8})
