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
# CIF files in, ranked band gaps with error bars out. The examples that come with mofgap stand in for your own
# files: change `STRUCTURES` to a folder, a glob pattern or an archive of yours. Nothing is downloaded.

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
# window. Ranks and window use the HSE06 gap; the PBE gap, mostly too small, stands next to it.
# Failures are rows too, with their reason, so that nothing is lost without a word.

# %%
table.plot(n_top=20)

# %% [markdown]
# ## How sure, and why not surer
# The standard deviation has two parts that add in squares: the epistemic one, for want of similar training
# structures (`epistemic_std_ev`), and the aleatoric one, from what a structure does not tell (`aleatoric_std_ev`).

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
# `novelty` is the share of the training structures that lie closer to the others than this one does; `nearest` names
# the training structures most like it. Where something needs a look the row has a warning:

# %%
for row in table[table.status == "warning"].itertuples():
    print(f"{row.structure_id}: {row.warnings}\n")

# %% [markdown]
# ## One structure
# The model by itself takes paths, pymatgen structures and ASE atoms.

# %%
model = mofgap.load_model("qmof-hse06")
gap_ev, std_ev = model.predict("out/mofs/MOF-5_MIBQAR16.cif", return_std=True)
print(f"MOF-5: {gap_ev:.2f} ± {std_ev:.2f} eV, {model.about.level_of_theory}")

# %% [markdown]
# ## Keep it
# The same table from the command line is `mofgap screen FILES --window 1.8 3.0 -o gaps.csv`. `table.report()`, or
# `mofgap report gaps.csv`, makes one page of it that opens anywhere, with the structures in 3D.

# %%
table.to_csv("out/gaps.csv", index=False)
page = table.report("out/report.html")
print(f"{page}: {page.stat().st_size / 1e6:.1f} MB in one file")

# %% [markdown]
# ## What the numbers are not
# Gaps are those of DFT: do not quote them as measured. Optical gaps may lie well below HSE06. PBE is far too
# low with open-shell metals. The intervals hold the HSE06 gap of 90 % of structures like those of the QMOF database;
# they say nothing about experiment, and less about structures far from that database.
