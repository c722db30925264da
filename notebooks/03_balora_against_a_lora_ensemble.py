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
# # BaLoRA against an ensemble of LoRA models
# One Bayesian model, or several ordinary ones? Both are trained from the same pretrained encoder, on the same split,
# for the same number of epochs, with adapters of the same rank; the ensemble is trained three times over. The small
# set in `data/quickstart` keeps it to minutes. It shows how to compare, not which method is better: BaLoRA is trained
# once here, on little over a hundred structures, with settings chosen for speed. `configs/qmof.yaml` is the same
# comparison on the whole QMOF database, with several trainings of each.

# %%
import os
from pathlib import Path

from mofgap.comparison import stages
from mofgap.configuration import load
from mofgap.workflow.config import RunConfig

os.chdir("..")  # the configuration names files from the top of the repository
SMALL = [
    "splits.split.trainings={full: 0, scratch: 0, lora: 0, balora: 1, dropout: 0, ensemble: 3}",
    "recipe={n_train: 120, epochs: 8, blocks: [4], batch_atoms: 400, learning_rate: 3e-3, rank: 16}",
    "prediction.samples=[1, 2, 4, 8]",
    "prediction.most_samples=8",
    "compute.jobs=1",
]
config = load(RunConfig, Path("configs/quickstart.yaml"), [f"comparison.{each}" for each in SMALL])
folder = Path("notebooks/out/03")  # what lies there already is not trained again
stages.run_all(config.comparison_in(folder), folder, print)

# %% [markdown]
# ## What it cost, and how far off it is

# %%
from mofgap.report import plots
from mofgap.report.compared import label, read_compared

compared = read_compared(folder)
columns = ["mae_ev", "spearman", "crps_ev", "coverage_90", "train_seconds", "forward_passes", "n_trainable"]
table = compared.best[compared.best.kind == "trained"].set_index("method")[
    [f"mean.{name}" for name in columns]
]
table.rename(index=label, columns=lambda name: name.removeprefix("mean.")).round(3)

# %% [markdown]
# ## Where each says that it is unsure

# %%
methods = ["balora-closed-form", "balora-weights", "lora-ensemble"]
test = {label(method): compared.seeds("split", method)[0] for method in methods}
true = next(iter(test.values())).gap_dft_ev
gaps = {name: rows.gap_ev.to_numpy() for name, rows in test.items()}
plots.error_vs_std(
    true, gaps, {name: rows.epistemic_std_ev.to_numpy() for name, rows in test.items()}, panels=True
)

# %% [markdown]
# ## What is left when the most uncertain are dropped

# %%
plots.error_decay_with_uncert(true, gaps, {name: rows.gap_std_ev.to_numpy() for name, rows in test.items()})

# %% [markdown]
# ## Is one better?
# Differences on the same test structures, with 95 % bootstrap intervals over structures (and over trainings, where
# there are several). An interval that holds zero decides nothing; one that does not decides about these models, not
# about the methods.

# %%
for each in compared.summary["paired"]:
    if (
        "lora-ensemble" in each["b"]
        and each["a"].startswith("balora")
        and each["metric"] in ("mae_ev", "spearman")
    ):
        decided = "" if each["lo"] <= 0 <= each["hi"] else "  <- decided"
        interval = f"{each['value']:+.3f} [{each['lo']:+.3f}, {each['hi']:+.3f}]"
        print(f"{each['metric']:<9} {each['spread']:<10} {each['a']} minus {each['b']}: {interval}{decided}")

# %% [markdown]
# `mofgap report RUN -o report.html` makes one page of such a run folder, with every metric and figure.
