from __future__ import annotations

import subprocess
import sys

import pytest

from mofgap.encoders.crystal_transformer import CrystalTransformer
from mofgap.encoders.encoder import Encoder
from mofgap.encoders.registry import ENCODERS, build_encoder, encoder_class, encoder_config


@pytest.mark.parametrize("name", ["crystal-transformer", "crystal_transformer"])
def test_an_encoder_is_built_from_its_settings(name: str) -> None:
    """The second is how model folders of older versions write it."""
    encoder = build_encoder(name, {"n_blocks": 1, "width": 8, "n_heads": 2})
    assert isinstance(encoder, CrystalTransformer)
    assert encoder.width == encoder.config.width == 8


@pytest.mark.parametrize("name", ENCODERS)
def test_every_entry_is_an_encoder(name: str) -> None:
    assert issubclass(encoder_class(name), Encoder)
    assert isinstance(encoder_config(name, {}), encoder_class(name).Config)


def test_an_unknown_encoder_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'crystal-transformer'"):
        build_encoder("crystal-transfromer", {})
    with pytest.raises(ValueError, match=f"known: {', '.join(ENCODERS)}"):
        build_encoder("zzz", {})


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="'widht'; did you mean 'width'"):
        build_encoder("crystal-transformer", {"widht": 8})


@pytest.mark.parametrize(("key", "value"), [("width", 8.5), ("width", "8"), ("cutoff_angstrom", True)])
def test_a_setting_of_another_type_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=key):
        encoder_config("crystal-transformer", {key: value})
    assert encoder_config("crystal-transformer", {"cutoff_angstrom": 5}).cutoff_angstrom == 5.0


def test_an_encoder_loads_no_other() -> None:
    program = (
        "import sys; from mofgap.encoders.registry import build_encoder;"
        "build_encoder('crystal-transformer', {}); print('torch_geometric' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
