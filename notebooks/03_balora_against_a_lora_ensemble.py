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
# # BaLoRA against an ensemble of LoRA models
# One Bayesian model, or several ordinary ones? Both are trained from the same pretrained encoder, on the same split,
# for the same number of epochs, with adapters of the same rank; the ensemble is trained three times over. The small
# set in `data/quickstart` keeps it to a minute. It shows how to compare, not which method is better: each is trained on
# ninety structures, with settings chosen for speed. `docs/qmof-cpu.md` is the same comparison on QMOF, with four
# passes; `configs/qmof.yaml` asks for twenty.

# %%
import os
import warnings
from pathlib import Path

from mofgap.configuration import load
from mofgap.study.engine.cluster import Executor
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.run import Run

warnings.filterwarnings("ignore", module="lightning")
os.chdir("..")  # the configuration names files from the top of the repository
SMALL = [
    "splits.split.trainings={full: 0, scratch: 0, lora: 0, balora: 1, dropout: 0, ensemble: 3}",
    "recipe={n_train: 90, epochs: 8, blocks: [4], batch_atoms: 400, learning_rate: 3e-3, rank: 16}",
    "prediction.samples=[2, 8]",
    "prediction.most_samples=8",
    "compute.device=cpu",
]
folder = Path("notebooks/out/03")
config = load(RunConfig, Path("configs/quickstart.yaml"), [f"comparison.{each}" for each in SMALL])

# %% [markdown]
# What `mofgap compare` does: each stage writes into the run folder, and what lies there already is not done again.

# %%
_ = Run(config, folder.resolve()).run(Executor(jobs=1), print)

# %% [markdown]
# ## How far off it is, and what it costs
# A draw, or a member, is one forward pass of a prediction; the closed form is one forward and one backward pass, which
# counts as two.

# %%
from mofgap.report import plots
from mofgap.study.report.compared import label, read_compared

compared = read_compared(folder)
columns = ["mae_ev", "spearman", "crps_ev", "coverage_90", "forward_passes", "n_trainable"]
table = compared.best[compared.best.kind == "trained"].set_index("method")[
    [f"mean.{name}" for name in columns]
]
table.rename(index=label, columns=lambda name: name.removeprefix("mean.")).round(3).astype(
    {"forward_passes": int, "n_trainable": int}
)

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
best = {
    label(method): compared.seeds("split", method)[0].gap_std_ev.to_numpy()
    for method in (methods[0], methods[-1])
}
plots.error_decay_with_uncert(true, gaps, best)

# %% [markdown]
# ## Is one better?
# Differences on the same test structures, with 95 % bootstrap intervals over structures. An interval that holds zero
# decides nothing; one that does not decides about these trainings, not about the methods.

# %%
for each in compared.summary["paired"]:
    wanted = (each["a"], each["b"]) == ("balora-closed-form", "lora-ensemble@3")
    if wanted and each["metric"] in ("mae_ev", "spearman"):
        decided = "" if each["lo"] <= 0 <= each["hi"] else "  <- decided"
        interval = f"{each['value']:+.3f} [{each['lo']:+.3f}, {each['hi']:+.3f}]"
        print(f"{each['metric']:<9} {each['spread']:<10} {each['a']} minus {each['b']}: {interval}{decided}")

# %% [markdown]
# `mofgap report RUN -o report.html` makes one page of such a run folder, with every metric and figure.
