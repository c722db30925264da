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
# # BaLoRA on any torch model, in a dozen lines
# `mofgap.balora` knows nothing of crystals. Here a small network is pretrained on one curve and then adapted to
# another, of which it sees few points, none in the middle and none at the ends. What do its error bars say there?

# %%
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
x_old = torch.linspace(-3, 3, 200)[:, None]
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for _ in range(500):
    loss = nn.functional.mse_loss(net(x_old), torch.sin(2 * x_old))
    optimizer.zero_grad(), loss.backward(), optimizer.step()
print(f"pretrained on sin(2x), mean squared error {loss.item():.5f}")


# %%
def target(x):
    """The curve to adapt to."""
    return torch.sin(2 * x) + 0.5 * x


x = torch.cat([torch.empty(25, 1).uniform_(-3, -1), torch.empty(25, 1).uniform_(1, 3)])
y = (target(x) + 0.05 * torch.randn_like(x)).squeeze(-1)

# %% [markdown]
# ## The dozen lines
# Adapters on all linear layers, and one sample of the posterior per step. The loop is the one of any torch model; only
# `kl_loss` is new.

# %%
from mofgap.balora import BaLoRAConfig, get_balora_model

model = get_balora_model(net, BaLoRAConfig(r=4, target_modules="all-linear", beta=0.1))
model.print_trainable_parameters()
log_std = nn.Parameter(torch.tensor(-1.0))
optimizer = torch.optim.Adam([*model.parameters_to_train(noise_lr=1e-2), {"params": [log_std]}], lr=1e-2)
for _ in range(1500):
    task_loss = nn.functional.gaussian_nll_loss(model(x).squeeze(-1), y, (2 * log_std).exp().expand_as(y))
    loss = task_loss + model.kl_loss(n_train=len(x))
    loss.backward()
    optimizer.step(), optimizer.zero_grad()

# %% [markdown]
# ## Error bars without sampling
# The posterior's variance to first order, from one forward and one backward pass, against 200 samples of the weights.

# %%
grid = torch.linspace(-4, 4, 161)[:, None]
mean, std = (each.squeeze(-1) for each in model.eval().predict(grid))
sampled = model.sample(grid, 200, seed=0).squeeze(-1).std(0)

# %%
import matplotlib.pyplot as plt

figure, (above, below) = plt.subplots(2, 1, figsize=(6.4, 5), sharex=True, layout="constrained")
at = grid.squeeze(-1)
above.fill_between(at, mean - 2 * std, mean + 2 * std, alpha=0.25, label="± 2 std, closed form")
above.plot(at, mean, label="adapted")
above.plot(at, target(grid).squeeze(-1), "--", color="grey", label="truth")
above.plot(x, y, ".", color="black", label="data")
above.set(ylabel="y", ylim=(-4, 4))
above.legend(ncols=2, fontsize=8)
below.plot(at, std, label="closed form")
below.plot(at, sampled, ":", color="black", label="200 samples of the weights")
below.set(xlabel="x", ylabel="epistemic std", ylim=(0, None))
below.legend(fontsize=8)
plt.show()

# %%
inside, outside = (at.abs() >= 1) & (at.abs() <= 3), at.abs() > 3
gap = at.abs() < 1
for name, where in {"where the data are": inside, "in the gap": gap, "beyond the data": outside}.items():
    error = (mean - target(grid).squeeze(-1))[where].abs().mean()
    print(f"{name:>18}: mean error {error:.3f}, mean epistemic std {std[where].mean():.3f}")
correlation = torch.corrcoef(torch.stack([std, sampled]))[0, 1]
print(f"correlation of the closed form with 200 samples: {correlation:.3f}")

# %% [markdown]
# Between the data the spread rises with the error. Beyond them the error rises and the spread does not: a posterior
# around one solution says nothing about regions without data. This is why mofgap reports `novelty` next to its
# error bars.
#
# The adapters load in Hugging Face PEFT as a LoRA adapter: `model.save_pretrained(folder)`. `docs/balora.md` says which
# layers can be adapted, what the model may be wrapped in, and which other posteriors there are.

# %% [markdown]
# ## Is it better than an ensemble?
# The claims about BaLoRA were judged by one protocol on three kinds of data: reasoning in text by a sentence encoder,
# images by a convolutional network and a vision transformer, and band gaps of metal-organic frameworks (MOFs: crystals
# of metals and organic linkers; the gap is one number a crystal, in eV) by a crystal transformer. Each method was
# trained at least four times, and intervals of 95 % are over trainings and test inputs. Above zero BaLoRA is better.
# The tables ship, and nothing is trained here.

# %%
# !mofgap examples out/tables --kind tables --force

# %%
import pandas as pd


def headline(modality):
    """What was found of each claim, for draws of the weights, of all tasks; of MOFs there is one."""
    found = pd.read_csv(f"out/tables/claims-{modality}/verdicts.csv")
    found = found[(found.way == "balora") & found.task.isin(["all tasks", "public"])].set_index("claim")
    return found.apply(
        lambda row: f"{row.verdict}: {row.value:+.3f} ({row.lo:+.3f} to {row.hi:+.3f})", axis=1
    )


statements = pd.read_csv("out/tables/claims-language/verdicts.csv").groupby("claim").statement.first()
pd.options.display.max_colwidth = None
pd.DataFrame({"claim": statements} | {name: headline(name) for name in ("language", "vision", "mofs-block")})

# %% [markdown]
# Of MOFs "errors" are absolute errors of the gap, and what is compared is the rank correlation of the spread with them.
#
# BaLoRA is not shown to be better than an ensemble. The ensemble has the better likelihood on all three kinds of data,
# and finds shifted inputs better. Whether BaLoRA's spread finds errors as well is undecided. It takes one training in place of
# five, but many samples. The uncertainty that one LoRA model states itself finds them better than either. `docs/claims.md` has the protocol, and what was left out.
