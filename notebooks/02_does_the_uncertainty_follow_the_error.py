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
# Where a model says that it is unsure, is it further off? This is the question of the BaLoRA paper (arXiv 2605.08110).
# Here it is asked of the two models that mofgap ships, on structures of QMOF that they did not learn.
#
# The table of QMOF does not ship with mofgap. What ships are means over many of its structures, which
# `python -m benchmarks.curves` made. The epoch and the calibration were chosen on the validation rows (`val`), so the
# test rows judge. The curves below are of the validation rows, of which there are more.

# %%
import matplotlib.pyplot as plt
import pandas as pd

# !mofgap examples out/tables --kind tables --force
scores = pd.read_csv("out/tables/shipped/scores.csv")
scores.round(3)

# %% [markdown]
# `spearman` is the rank correlation of the standard deviation with the absolute error, with its 95 % interval
# on the validation rows.
# `spearman_expected` is what it would be if each error were drawn from its own error bar. So no perfect model
# reaches 1: a wide error bar may still hit by luck. For PBE the error bars rank the errors about as well as they could.
# For HSE06 they do so on the validation rows, and less well on the 550 test rows.
#
# ## Structures in ten groups by their error bar

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
# ## What a chemist gains from it
# Keep only the structures with the smallest error bars. How far off are these?

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
# How many gaps lie in an interval? On the validation rows that would be no test, since intervals were fitted there. These
# are the test rows, as the models' own files of metrics have them.

# %%
pd.read_csv("out/tables/shipped/test.csv").pivot(
    index="level", columns="model", values=["coverage", "width_ev"]
).round(3)

# %% [markdown]
# ## Do more samples make the answer better?
# The shipped models do not sample. Their epistemic part is a distance: how far is the nearest training structure, in the
# gradients of the adapters? The posterior of BaLoRA can be sampled all the same, with `--uncertainty weights --samples N`.
# Here are 300 of the validation rows.

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
# More samples make it better. They stay below the distance, and 32 of them take seven times as long. So the default is
# right for the shipped models.
#
# ## On structures of your own
# The example MOFs stand in for them. The surest five, and the least sure five:

# %%
import mofgap

# !mofgap examples out/mofs --force
table = mofgap.screen("out/mofs/*.cif").sort_values("gap_std_ev")
columns = ["structure_id", "gap_ev", "gap_std_ev", "epistemic_std_ev", "aleatoric_std_ev", "novelty"]
pd.concat([table.head(5), table.tail(5)])[columns].round(2)

# %% [markdown]
# Do you have gaps of your own, at the level of the model? Then the correlation is three lines. `labels` has a column
# `structure_id` and a column `label_ev`:
# ```python
# both = mofgap.screen("cifs/", level="pbe").merge(labels, on="structure_id")
# both["error_ev"] = (both.gap_ev - both.label_ev).abs()
# both.gap_std_ev.corr(both.error_ev, method="spearman")
# ```
