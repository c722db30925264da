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
# # Screen your own MOFs
# This notebook predicts the band gaps of MOFs from CIF files, with error bars, and ranks them. It uses the examples
# that come with mofgap. For your own files, change `STRUCTURES` to a folder, a glob pattern or an archive. Nothing is
# downloaded.

# %%
import mofgap

# !mofgap examples out/mofs --force
STRUCTURES = "out/mofs/*.cif"
WINDOW_EV = (1.8, 3.0)  # the gaps you are after

# %%
table = mofgap.screen(STRUCTURES, window=WINDOW_EV)
table

# %% [markdown]
# The table is a pandas DataFrame with a row for each structure, ranked by the probability that its gap lies in the
# window. Ranks and window use the HSE06 gap. The PBE gap has columns too. A file that cannot be
# read is a row with the reason.
#
# The plot shows the first 20 structures: the gap (dot), its 90 % interval (line) and the window (shaded).

# %%
table.plot(n_top=20)

# %% [markdown]
# ## Size and parts of the error bar
# The plot shows that structures in the window (shaded) have small and large standard deviations. Choose among them by
# the error bar too.
#
# The standard deviation has two parts, which add in squares. The epistemic part (`epistemic_std_ev`) comes from a lack
# of similar training structures. The aleatoric part (`aleatoric_std_ev`) is noise that more training data would not
# remove.

# %%
axes = table.plot.scatter("gap_ev", "gap_std_ev", xlabel="HSE06 gap / eV", ylabel="standard deviation / eV")
axes.axvspan(*WINDOW_EV, alpha=0.2, color="orange")
axes.set_ylim(bottom=0)
axes.figure.tight_layout()

# %%
columns = [
    "structure_id",
    "gap_ev",
    "gap_std_ev",
    "epistemic_std_ev",
    "aleatoric_std_ev",
    "novelty",
    "nearest",
]
table.sort_values("novelty", ascending=False)[columns].head(5).round(2)

# %% [markdown]
# The table has the five structures that are most unlike the training data. `novelty` is the share of the training
# structures that lie closer to the other training structures than this one does. `nearest` names the most similar
# training structures. A row has a warning if its structure needs a check:

# %%
for row in table[table.status == "warning"].itertuples():
    print(f"{row.structure_id}: {row.warnings}\n")

# %% [markdown]
# ## One structure
# A model predicts the gap of one structure, given as a path, a pymatgen structure or ASE atoms.

# %%
model = mofgap.load_model("qmof-hse06")
gap_ev, std_ev = model.predict("out/mofs/MOF-5_MIBQAR16.cif", return_std=True)
print(f"MOF-5: {gap_ev:.2f} ± {std_ev:.2f} eV, {model.about.level_of_theory}")

# %% [markdown]
# ## Save the table and a report
# `table.report()` writes one page with figures, table and structures in 3D, which opens in any browser. On the command
# line the same is `mofgap screen FILES --window 1.8 3.0 -o gaps.csv`, then `mofgap report gaps.csv`.

# %%
table.to_csv("out/gaps.csv", index=False)
page = table.report("out/report.html")
print(f"{page}: {page.stat().st_size / 1e6:.1f} MB in one file")

# %% [markdown]
# ## What the numbers are not
# Gaps are those of DFT: do not quote them as measured. Optical gaps may lie well below HSE06. PBE gaps may be far too
# small for open-shell metals. The intervals contain the HSE06 gap for 90 % of structures like those of the QMOF
# database. They do not refer to experiment, and are less reliable for structures unlike that database.
