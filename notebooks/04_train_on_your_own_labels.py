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
# # Train on your own labels
# This notebook trains the shipped PBE model on 40 gaps of another level of theory, here GFN1-xTB. Use it if you have some
# tens of gaps at your level (labels). You need a CSV of labels and the CIFs that it names. Here a small set that ships
# with mofgap is used.

# %%
import shutil
from pathlib import Path

import mofgap
import pandas as pd

folder = Path("out")
# !mofgap examples out/quickstart --kind labels --force
shutil.rmtree(folder / "my-model", ignore_errors=True)
labels = pd.read_csv(folder / "quickstart" / "labels.csv")
mine = labels[labels.split == "train"].head(40)
mine[["structure_id", "gap_ev"]].to_csv(folder / "labels.csv", index=False)
mine[["structure_id", "gap_ev"]].head()

# %% [markdown]
# ## Train
# `--from qmof-pbe` starts from the shipped model. With so few labels there is no validation set: the error bars come from
# five more models. Each is trained without a fifth of the structures and predicts this fifth (`cross-fitted`). Messages
# go to `out/train.log`.

# %%
CIFS = folder / "quickstart" / "structures.zip"
# !mofgap train out/labels.csv {CIFS} --from qmof-pbe -o out/my-model --epochs 8 --level-of-theory GFN1-xTB 2> out/train.log

# %% [markdown]
# ## Test the model
# The trained model has a smaller error on the test labels than the shipped one, and than the mean of the labels. No model
# was trained on the labels of the test structures: GFN1-xTB gaps, which the shipped model, for PBE gaps, was not made
# for. But `qmof-pbe` knows PBE gaps of some of these compounds, relaxed. The plot shows predicted gaps with their standard deviations against the labels.

# %%
test = labels[labels.split == "test"]
wanted = test.set_index("structure_id").gap_ev


def on_test(model: str) -> pd.DataFrame:
    """Predictions of the test structures next to their labels."""
    table = mofgap.screen(CIFS, model=model)
    return table[table.structure_id.isin(wanted.index)].assign(label_ev=lambda t: t.structure_id.map(wanted))


shipped, tuned = on_test("qmof-pbe"), on_test(str(folder / "my-model"))
coverage = (tuned.gap_lo90_ev <= tuned.label_ev) & (tuned.label_ev <= tuned.gap_hi90_ev)
rows = {
    "mean of my labels": (mine.gap_ev.mean() - wanted).abs().mean(),
    "qmof-pbe as it is (PBE)": (shipped.gap_ev - shipped.label_ev).abs().mean(),
    "my-model (GFN1-xTB)": (tuned.gap_ev - tuned.label_ev).abs().mean(),
}
print(f"mean absolute error on {len(wanted)} test structures, eV:")
for name, error in rows.items():
    print(f"  {name:<24} {error:.2f}")
print(
    f"{100 * coverage.mean():.0f} % of the labels lie in their 90 % intervals ({coverage.sum()} of {len(coverage)})"
)

# %%
axes = tuned.plot.scatter("label_ev", "gap_ev", yerr="gap_std_ev", figsize=(4.6, 4.6), alpha=0.7)
axes.axline((0, 0), slope=1, color="k", linestyle="--")
axes.set(xlabel="label / eV", ylabel="predicted gap / eV", aspect="equal")
axes.figure.tight_layout()

# %% [markdown]
# ## Use the model
# Give the model folder to any command that takes a model: `mofgap screen FILES --model my-model`. Its card says what it
# was trained on, and its scores.

# %%
from IPython.display import Markdown

Markdown(folder / "my-model" / "card.md")
