"""Write the golden values of a shipped model: what it says of the example CIFs, to four decimals.

Run ``python tests/golden/make_golden.py`` after a new model is shipped, look at what changed, and commit the
file with the model. ``tests/test_shipped_model.py`` compares.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mofgap.crystals.single import crystal_of
from mofgap.gap.predictor import load_model
from mofgap.shipped import shipped_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="qmof-pbe", help="name of a shipped model")
    name = parser.parse_args().model
    paths = sorted(shipped_folder("examples").glob("*.cif"))
    gaps, stds = load_model(name, device="cpu").predict(
        [crystal_of(path) for path in paths], return_std=True, preparation=None
    )
    golden = {
        path.name: {"gap_ev": round(float(gap), 4), "gap_std_ev": round(float(std), 4)}
        for path, gap, std in zip(paths, gaps, stds, strict=True)
    }
    target = Path(__file__).with_name(f"{name}.json")
    target.write_text(json.dumps(golden, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
