"""From CIF text to a gap with its error bar, beside CHGNet's point energy of the same structures.

Both read the same text, compute on one thread and take turns at the whole list.
"""

from __future__ import annotations

import warnings

from chgnet.model.model import CHGNet
from pymatgen.core import Structure

from benchmarks.measure import add_model, cpu_seconds, example_texts, one_thread, parser_of, print_times
from mofgap.crystals.checks import check_crystal
from mofgap.crystals.cif import read_cif
from mofgap.crystals.crystal import Crystal
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.screening.levels import MODELS

OURS, THEIRS, THEIRS_READ = "mofgap, CIF to error bar", "CHGNet, CIF to energy", "CHGNet, energy alone"
OURS_OF_TWO = "mofgap, CIF to error bars of HSE06 and PBE"


def screened(predictor: GapPredictor, text: str) -> float:
    """Read, check, graph, error bar, calibration, novelty; the lower end of the 90 % interval, eV."""
    (crystal,) = read_cif(text)
    if not isinstance(crystal, Crystal):
        raise ValueError(crystal.reason)
    check_crystal(crystal)
    found = predictor.estimate([crystal])
    low, _ = predictor.calibration.interval(found.gap_ev, found.gap_std_ev, 0.9, found.novelty)
    return float(low[0])


def main() -> None:
    """Print times and the ratio of throughputs."""
    parser = parser_of(__doc__)
    add_model(parser)
    parser.add_argument("--limit", type=int, help="take only so many examples")
    parser.add_argument("--repeats", type=int, default=3, help="times each is computed; the median counts")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    one_thread()
    predictor = load_model(options.model, device="cpu")
    of_two = load_model(MODELS["hse06"], "cpu", MODELS["pbe"])
    chgnet = CHGNet.load(use_device="cpu", verbose=False)
    texts = example_texts(options.limit)
    parsed = {text: Structure.from_str(text, fmt="cif") for text in texts}
    seconds = cpu_seconds(
        {
            OURS: lambda text: screened(predictor, text),
            OURS_OF_TWO: lambda text: screened(of_two, text),
            THEIRS: lambda text: chgnet.predict_structure(Structure.from_str(text, fmt="cif"), task="e"),
            THEIRS_READ: lambda text: chgnet.predict_structure(parsed[text], task="e"),
        },
        texts,
        options.repeats,
    )
    print(f"{len(texts)} example CIFs, {sum(len(s) for s in parsed.values())} atoms, one thread")
    print_times(seconds, OURS)
    for name in (THEIRS, THEIRS_READ):
        print(f"structures a second, mofgap over {name}: {seconds[name].sum() / seconds[OURS].sum():.1f}")


if __name__ == "__main__":
    main()
