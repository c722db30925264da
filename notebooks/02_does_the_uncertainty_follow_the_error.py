# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]

# %% [markdown]
# # Does the uncertainty follow the error?
# The question of the BaLoRA paper (arXiv 2605.08110), asked of MOFs: where the model says that it is unsure, is it
# further off, and do more samples make the answer better? Here on the small set in `data/quickstart`, with GFN1-xTB
# gaps and adapters on one block, so that it runs in a minute. This shows how to look: what one short training on so
# few structures finds need not hold for the method. `configs/qmof.yaml` is the same comparison on the whole QMOF
# database.

# %%
import os
from pathlib import Path

from mofgap.comparison import stages
from mofgap.configuration import load
from mofgap.workflow.config import RunConfig

os.chdir("..")  # the configuration names files from the top of the repository
SMALL = [
    "splits.split.trainings={full: 0, scratch: 0, lora: 0, balora: 1, dropout: 0, ensemble: 0}",
    "recipe={epochs: 12, blocks: [4], batch_atoms: 400, learning_rate: 3e-3, rank: 16}",
    "prediction.samples=[1, 2, 4, 8, 16, 32]",
    "prediction.most_samples=32",
    "compute.jobs=1",
]
config = load(RunConfig, Path("configs/quickstart.yaml"), [f"comparison.{each}" for each in SMALL])
folder = Path("notebooks/out/02")  # what lies there already is not trained again
stages.run_all(config.comparison_in(folder), folder, print)

# %% [markdown]
# ## Error against spread
# The model's own doubt (epistemic) on test structures it has not seen, from 32 samples of the weights and in closed
# form, without sampling.

# %%
from mofgap.report import plots
from mofgap.report.compared import bootstrap_interval, label, read_compared
from mofgap.uncertainty import metrics

compared = read_compared(folder)
methods = ["balora-closed-form", "balora-weights", "balora-rows"]
test = {method: compared.seeds("split", method)[0] for method in methods}
first = test[methods[0]]
plots.error_vs_std(
    first.gap_dft_ev,
    {label(method): test[method].gap_ev.to_numpy() for method in methods},
    {label(method): test[method].epistemic_std_ev.to_numpy() for method in methods},
    panels=True,
)

# %%
for method in methods:
    columns = test[method][["gap_dft_ev", "gap_ev", "epistemic_std_ev"]].to_numpy().T
    rho = metrics.spearman(*columns)
    low, high = bootstrap_interval([columns], metrics.spearman)
    verdict = (
        "follows the error"
        if low > 0
        else "goes against the error"
        if high < 0
        else "cannot be told from chance"
    )
    print(f"{label(method):<22} Spearman {rho:+.2f}, 95 % [{low:+.2f}, {high:+.2f}]: {verdict}")

# %% [markdown]
# ## Against the number of samples

# %%
rows = compared.entries.query("spread == 'epistemic' and calibration == 'raw'")
rows = rows.assign(method=rows.method.map(label))
plots.metric_vs_samples(
    "n_samples", "mean.spearman", "method", df=rows, metric="Spearman(own doubt, |error|)",
    made="Test structures of data/quickstart, one training.",
)  # fmt: skip

# %% [markdown]
# ## After calibration
# A spread that ranks errors is not yet one of the right size. Here the whole spread (with the part that the model
# cannot see) was scaled on the validation structures.

# %%
plots.qq_gaussian("gap_dft_ev", "gap_ev", "gap_std_ev", df=test["balora-closed-form"])

# %%
plots.error_decay_with_uncert("gap_dft_ev", "gap_ev", "gap_std_ev", df=test["balora-closed-form"])

# %% [markdown]
# ## The shipped model
# What was measured of `qmof-pbe`, which learnt from the QMOF database, on its test split. The correlation counts the
# whole calibrated spread; beside it what it would be if every error were drawn from the predicted spread.

# %%
import json

measured = json.loads(Path("models/qmof-pbe/metrics.json").read_text())["metrics"]["test"]
print(f"{measured['n']:.0f} test structures, mean absolute error {measured['mae_ev']:.3f} eV")
print(f"Spearman(std, |error|) {measured['spearman']:.3f}, expected {measured['spearman_expected']:.3f}")
print(f"90 % intervals hold {100 * measured['coverage_90']:.1f} % of the references")
