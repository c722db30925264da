"""What an error bar costs: the default spread and samples beside the mean alone, from the same graphs."""

from __future__ import annotations

import torch

from benchmarks.measure import add_model, cpu_seconds, example_texts, one_thread, parser_of, print_times
from mofgap.crystals.cif import read_cif
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.distinct import without_repeats
from mofgap.crystals.graph import CrystalGraph, crystal_graph
from mofgap.encoders.products import fast_products
from mofgap.gap.posterior import posterior
from mofgap.gap.predictor import load_model

FORWARD, POINT, DEFAULT = "a forward pass of each network", "point prediction", "error bar"
ONEDNN = "error bar by oneDNN"
"""With the products of matrices that trainings use, see `mofgap.encoders.products`."""


def main() -> None:
    """Print times and ratios."""
    parser = parser_of(__doc__)
    add_model(parser)
    parser.add_argument("--samples", type=int, default=32, help="draws of the posterior")
    parser.add_argument("--limit", type=int, help="take only so many examples")
    parser.add_argument("--repeats", type=int, default=5, help="times each is computed; the median counts")
    options = parser.parse_args()
    one_thread()
    model, plain = (load_model(options.model, device="cpu").model for _ in range(2))
    plain.drop_correction()  # a corrected gap takes the gradients of an error bar
    crystals = [entry for text in example_texts(options.limit) for entry in read_cif(text)]
    graphs = [crystal_graph(c, model.graph_config) for c in crystals if isinstance(c, Crystal)]
    sampled = f"{options.samples} samples"

    @torch.no_grad()
    def forward(graph: CrystalGraph) -> None:
        distinct = without_repeats(graph)
        for network in (model, *model.members):
            network(distinct)

    def by_onednn(graph: CrystalGraph) -> None:
        with fast_products():
            posterior(model, without_repeats(graph))

    seconds = cpu_seconds(
        {
            FORWARD: forward,
            POINT: lambda graph: posterior(plain, without_repeats(graph), samples=0),
            DEFAULT: lambda graph: posterior(model, without_repeats(graph)),
            ONEDNN: by_onednn,
            sampled: lambda graph: posterior(model, graph, uncertainty="weights", samples=options.samples),
        },
        graphs,
        options.repeats,
    )
    print(f"{len(graphs)} example CIFs, {sum(graph.n_atoms for graph in graphs)} atoms, one thread")
    print_times(seconds, POINT)
    print(f"{DEFAULT} / {POINT}: {seconds[DEFAULT].sum() / seconds[POINT].sum():.2f}")
    print(f"{DEFAULT} / {FORWARD}: {seconds[DEFAULT].sum() / seconds[FORWARD].sum():.2f}")
    print(f"{ONEDNN} / {DEFAULT}: {seconds[ONEDNN].sum() / seconds[DEFAULT].sum():.2f}")
    print(f"{DEFAULT} / {sampled}: {seconds[DEFAULT].sum() / seconds[sampled].sum():.3f}")


if __name__ == "__main__":
    main()
