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
# # Does the uncertainty follow the error?
# Yes: structures with a larger error bar have a larger error on average. This is the question of the BaLoRA paper
# (arXiv 2605.08110). This notebook answers it for the two models that mofgap ships, on structures of QMOF that they
# were not trained on.
#
# The table of QMOF does not ship with mofgap. The notebook reads means over many of its structures, which
# `python -m benchmarks.curves` computed. The validation rows (`val`) chose the epoch and calibrated the error bars, so
# the test rows are the fair ones. The curves are of the validation rows, which are more.

# %%
import matplotlib.pyplot as plt
import pandas as pd

# !mofgap examples out/tables --kind tables --force
scores = pd.read_csv("out/tables/shipped/scores.csv")
scores.round(3)

# %% [markdown]
# `spearman` is the rank correlation of the standard deviation with the absolute error. It has a 95 % interval on the
# validation rows. `spearman_expected` is its value if each error were drawn from a normal distribution with that
# standard deviation. It is below 1, because a structure with a wide error bar may still have a small error. For PBE the
# error bars rank the errors about as well as expected. For HSE06 they do so on the validation rows, and less well on
# the 550 test rows.
#
# ## Structures in ten groups by their error bar
# The plot shows that the mean error of a group grows with its mean standard deviation, as expected (dotted line).

# %%
bins = pd.read_csv("out/tables/shipped/error-by-std.csv")
figure, axes = plt.subplots(figsize=(5.4, 4), layout="constrained")
for model, rows in bins.groupby("model", sort=False):
    axes.plot(rows.mean_std_ev, rows.mean_abs_error_ev, "o-", label=model)
line = bins.sort_values("mean_std_ev")
axes.plot(
    line.mean_std_ev, line.expected_abs_error_ev, "k:", label="if errors were drawn from the error bars"
)
axes.set(
    xlabel="mean standard deviation / eV", ylabel="mean absolute error / eV", xlim=(0, None), ylim=(0, None)
)
axes.legend()
plt.show()

# %% [markdown]
# In the group with the widest error bars the error is several times that of the group with the narrowest.
#
# ## The error of the surest structures
# The plot shows that the error is smaller if you keep only the structures with the smallest error bars. The dotted lines
# are the best possible choice, by the errors themselves.

# %%
kept = pd.read_csv("out/tables/shipped/kept.csv")
figure, axes = plt.subplots(figsize=(5.4, 4), layout="constrained")
for model, rows in kept.groupby("model", sort=False):
    (drawn,) = axes.plot(100 * rows.share_kept, rows.mae_ev, label=model)
    axes.plot(
        100 * rows.share_kept,
        rows.best_possible_mae_ev,
        ":",
        color=drawn.get_color(),
        label=f"{model}, best choice",
    )
axes.set(xlabel="structures kept / %", ylabel="mean absolute error / eV", xlim=(0, 100), ylim=(0, None))
axes.legend()
plt.show()

# %%
kept[kept.share_kept.isin([0.1, 0.5, 1.0])].pivot(index="share_kept", columns="model", values="mae_ev")

# %% [markdown]
# ## Are the error bars of the right size?
# The table shows the share of test gaps inside the intervals (`coverage`), which should be `level`, and the mean width
# of the intervals in eV. The numbers are from the models' files of metrics.

# %%
pd.read_csv("out/tables/shipped/test.csv").pivot(
    index="level", columns="model", values=["coverage", "width_ev"]
).round(3)

# %% [markdown]
# ## Do more samples rank the errors better?
# The plot shows that more samples of the weights rank the errors better, but stay below the default. The default needs
# no samples: the epistemic part is the distance to the nearest training structure. `--uncertainty weights --samples N`
# samples the posterior of BaLoRA instead. The rows are 300 of the validation rows.

# %%
samples = pd.read_csv("out/tables/shipped/samples.csv")
drawn = samples[samples.n_samples > 0]
distance = samples[samples.n_samples == 0].iloc[0]
figure, axes = plt.subplots(figsize=(5.4, 4), layout="constrained")
reach = [
    drawn.spearman_epistemic - drawn.spearman_epistemic_lo,
    drawn.spearman_epistemic_hi - drawn.spearman_epistemic,
]
axes.errorbar(
    drawn.n_samples, drawn.spearman_epistemic, yerr=reach, fmt="o-", capsize=3, label="samples of the weights"
)
axes.axhline(distance.spearman_epistemic, color="k", linestyle="--", label="distance (the default)")
axes.set(xlabel="samples", ylabel="Spearman(epistemic std, |error|)")
axes.set_xscale("log", base=2)
axes.legend()
plt.show()

# %%
samples.set_index(["method", "n_samples"])[
    ["spearman_epistemic", "spearman_total", "mae_ev", "cpu_ms"]
].round(3)

# %% [markdown]
# 32 samples take six times as long as the distance (`cpu_ms`). So use the default with the shipped models.
#
# ## On your own structures
# The table has the five structures with the smallest error bars, and the five with the largest, of the example MOFs:

# %%
import mofgap

# !mofgap examples out/mofs --force
table = mofgap.screen("out/mofs/*.cif").sort_values("gap_std_ev")
columns = ["structure_id", "gap_ev", "gap_std_ev", "epistemic_std_ev", "aleatoric_std_ev", "novelty"]
pd.concat([table.head(5), table.tail(5)])[columns].round(2)

# %% [markdown]
# If you have known gaps at the level of the model, three lines compute the correlation. `labels` has the columns
# `structure_id` and `label_ev`:
# ```python
# both = mofgap.screen("cifs/", level="pbe").merge(labels, on="structure_id")
# both["error_ev"] = (both.gap_ev - both.label_ev).abs()
# both.gap_std_ev.corr(both.error_ev, method="spearman")
# ```
