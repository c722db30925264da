"""Verdicts: each claim against the predictions, with bootstrap intervals over test rows and seeds.

A claim asserts that a difference lies on one side of a bound. It is supported where the whole interval of the
difference does, not supported where none of it does, and undecided otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from mofgap.counts import counted
from mofgap.study.config import JudgementConfig
from mofgap.study.judge.arms import Arm, Arms, common
from mofgap.study.judge.statistics import COMPARED, METRICS, mae, spearman
from mofgap.study.methods.method import NEIGHBOURS, estimators, method_of, method_with
from mofgap.uncertainty.bootstrap import Interval, intervals
from mofgap.uncertainty.columns import Floats

Statistic = Callable[[Sequence[Arm]], Any]
Verdict = Literal["supported", "not supported", "undecided"]

ENSEMBLE = "lora-ensemble"
"""The rival that BaLoRA is judged against."""

CLAIMS = {
    "a": "BaLoRA's spread follows the error better than that of a trained ensemble of LoRA models",
    "b": "BaLoRA's spread follows the error the better the more samples are drawn",
    "c": "BaLoRA costs no accuracy against LoRA",
    "d": "BaLoRA's noise narrows LoRA's gap in accuracy to full fine-tuning",
}


@dataclass(frozen=True)
class Bootstrap:
    """Resampling of test rows, the same for every arm, and of each arm's seeds.

    Rows of one group are drawn singly. Where groups of a split are large, intervals are too short.

    Attributes:
        level: Nominal coverage of the intervals.
        n_draws: Number of resamplings.
        seed: Seed of the resamplings.
    """

    level: float
    n_draws: int
    seed: int

    @classmethod
    def of(cls, config: JudgementConfig) -> Bootstrap:
        """As a configuration asks for it."""
        return cls(config.level, config.n_draws, config.seed)

    def __call__(self, statistic: Statistic, arms: Sequence[Arm]) -> list[Interval]:
        """The interval of each number that a statistic of some arms gives."""
        draws = self.draws(statistic, arms)
        return intervals(np.atleast_1d(statistic(arms)), draws, self.level)

    def draws(self, statistic: Statistic, arms: Sequence[Arm], *, one_curve: bool = False) -> Floats:
        """The statistic of resampled arms, shape (n_draws, n_numbers).

        Args:
            statistic: Called with a list of arms.
            arms: Arms of the same rows.
            one_curve: Whether the arms are points of one curve, so that all get the same seeds.
        """
        rng = np.random.default_rng(self.seed)
        found = []
        for _ in range(self.n_draws):
            rows = rng.integers(arms[0].n, size=arms[0].n)
            seeds = [rng.integers(arm.n_seeds, size=arm.n_seeds) for arm in arms]
            chosen = [seeds[0]] * len(arms) if one_curve else seeds
            found.append(statistic([arm.taken(rows, s) for arm, s in zip(arms, chosen, strict=True)]))
        return np.array(found, dtype=np.float64).reshape(self.n_draws, -1)


def pairs(arms: Arms, config: JudgementConfig) -> Iterator[dict[str, Any]]:
    """Differences of BaLoRA's estimators to every other method.

    Those with the neighbour correction are compared with networks with one, and with the plain ensemble.
    """
    bootstrap = Bootstrap.of(config)
    for mine, other in _wanted_pairs(arms, config.estimator):
        a, b = common(mine, other)
        for name in COMPARED[arms.spread]:
            if name != "mae_ev" and (a.std_ev is None or b.std_ev is None):
                continue
            (found,) = bootstrap(difference(METRICS[name]), (a, b))
            about = {"split": arms.split, "metric": name, "spread": arms.spread}
            sizes = {"n": a.n, "level": config.level, "n_draws": config.n_draws}
            yield about | {"a": mine.label, "b": other.label} | asdict(found) | sizes


def _wanted_pairs(arms: Arms, headline: str) -> Iterator[tuple[Arm, Arm]]:
    """Each estimator at its most draws; against the ensemble also at no more draws than it has members."""
    for mine in _estimators(arms):
        for other in arms.others(mine.method):
            is_alike = other.suffix == mine.suffix or other.method == ENSEMBLE
            method = method_with(other.method)
            if method.is_network and not is_alike:
                continue
            if method.kind == "published" and mine.method != headline:
                continue  # the rows are the same, and one comparison is enough
            yield mine, other
            if other.method.startswith(ENSEMBLE):
                cheap = arms.last(mine.method, most=other.n_samples)
                if cheap is not None and 2 <= cheap.n_samples < mine.n_samples:
                    yield cheap, other


def difference(metric: Callable[[Arm], float]) -> Statistic:
    """A metric of two arms, the first minus the second."""
    return lambda both: metric(both[0]) - metric(both[1])


def trends(arms: Arms, config: JudgementConfig) -> Iterator[dict[str, Any]]:
    """How each metric depends on the number of draws or members."""
    bootstrap = Bootstrap.of(config)
    sampled = [name for name, each in estimators().items() if each.is_sampled]
    for method in (*sampled, *(name + NEIGHBOURS for name in sampled)):
        for metric in COMPARED[arms.spread]:
            if found := trend(arms, method, metric, bootstrap):
                yield found


def _estimators(arms: Arms) -> Iterator[Arm]:
    names = [each.name for each in method_of("balora").estimators]
    return filter(None, map(arms.last, (*names, *(name + NEIGHBOURS for name in names))))


def verdicts(arms: Arms, config: JudgementConfig, curves: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One verdict per claim and estimator; ``headline`` marks those that the configuration chose beforehand.

    One with the neighbour correction is judged against rivals with one. ``curves`` are the `trends` of the
    arms.
    """
    bootstrap = Bootstrap.of(config)
    found = []
    for mine in _estimators(arms):
        judged = [
            _against_ensemble(arms, mine, bootstrap),
            _rising(curves, mine.method),
            _no_cost(arms, mine, bootstrap, config.margin_ev),
            _narrowing(arms, mine, bootstrap),
        ]
        about = {"split": arms.split, "estimator": mine.method, "spread": arms.spread, "level": config.level}
        about["headline"] = (mine.method, arms.spread) == (config.estimator, config.spread)
        for claim, verdict in zip(CLAIMS, judged, strict=True):
            if verdict is not None:
                found.append({"claim": claim, "statement": CLAIMS[claim]} | about | verdict)
    return found


def _against_ensemble(arms: Arms, mine: Arm, bootstrap: Bootstrap) -> dict[str, Any] | None:
    other = arms.last(ENSEMBLE + mine.suffix)
    if other is None or mine.std_ev is None or other.std_ev is None:
        return None
    (found,) = bootstrap(difference(spearman), (mine, other))
    reason = f"Spearman of {mine.label} minus that of {other.label}"
    return _verdict(above_zero(found), "spearman", found, reason)


def _no_cost(arms: Arms, mine: Arm, bootstrap: Bootstrap, margin_ev: float) -> dict[str, Any] | None:
    other = arms.last("lora" + mine.suffix)
    if other is None:
        return None
    (found,) = bootstrap(difference(mae), (mine, other))
    shifted = Interval(margin_ev - found.value, margin_ev - found.hi, margin_ev - found.lo)
    reason = f"MAE of {mine.label} minus that of {other.label}, eV, against a margin of {margin_ev:g} eV"
    return _verdict(above_zero(shifted), "mae_ev", found, reason, margin_ev)


def _narrowing(arms: Arms, mine: Arm, bootstrap: Bootstrap) -> dict[str, Any] | None:
    lora, full = arms.last("lora" + mine.suffix), arms.last("full" + mine.suffix)
    if lora is None or full is None:
        return None

    def statistic(three: Sequence[Arm]) -> list[float]:
        balora, low_rank, whole = (mae(arm) for arm in three)
        return [low_rank - balora, low_rank - whole]

    narrowed, gap = bootstrap(statistic, (mine, lora, full))
    answer: Verdict = "undecided"
    reason = "MAE of LoRA minus that of BaLoRA, eV"
    if gap.hi <= 0:
        answer = "not supported"
        reason = "there is no gap to narrow: LoRA's error is not above full fine-tuning's"
    elif narrowed.hi < 0 or (narrowed.lo > 0 and gap.lo > 0):
        answer = above_zero(narrowed)
    reason += f"; LoRA minus full fine-tuning is {gap.value:+.4f} ({gap.lo:+.4f} to {gap.hi:+.4f}) eV"
    return _verdict(answer, "mae_ev", narrowed, reason)


def _rising(curves: Sequence[dict[str, Any]], estimator: str) -> dict[str, Any] | None:
    wanted = (estimator, "spearman")
    found = next((curve for curve in curves if (curve["method"], curve["metric"]) == wanted), None)
    if found is None:
        return None
    gain = Interval(**found["gain"])
    samples = found["samples"]
    falling = [f"{step['from']} to {step['to']}" for step in found["steps"] if step["hi"] < 0]
    of = counted(found["n_seeds"], "training")
    reason = f"Spearman at S = {samples[-1]} minus S = {samples[0]}, of {of}; Kendall's tau with S "
    reason += "{value:.2f} ({lo:.2f} to {hi:.2f})".format(**found["trend"])
    reason += f"; it falls from S = {', '.join(falling)}" if falling else "; no step falls significantly"
    return _verdict(found["verdict"], "spearman", gain, reason)


def trend(arms: Arms, method: str, metric: str, bootstrap: Bootstrap) -> dict[str, Any] | None:
    """Whether a metric gets better with every doubling of draws, or with every member.

    The claim is supported if the gain from the first to the last number of draws is on the good side. The
    same must hold for Kendall's tau of metric and draws, and no step may be on the bad side. A step's
    interval is widened for the number of steps (Bonferroni).

    Returns:
        Values, steps, gain and tau, all with intervals and in the metric's own sign; None without a curve.
    """
    curve = arms.curve(method)
    if len(curve) < 2 or any(arm.std_ev is None for arm in curve):
        return None
    measure, n = METRICS[metric], len(curve)

    def statistic(drawn: Sequence[Arm]) -> Floats:
        values = np.array([measure(arm) for arm in drawn])
        return np.concatenate([values, [values[-1] - values[0], kendall(values)], np.diff(values)])

    value, draws = statistic(curve), bootstrap.draws(statistic, curve, one_curve=True)
    plain = intervals(value, draws, bootstrap.level)
    strict = intervals(value, draws, 1 - (1 - bootstrap.level) / (n - 1))
    values, gain, tau, steps = plain[:n], plain[n], plain[n + 1], strict[n + 2 :]
    good = [_towards_good(metric, each) for each in (gain, tau, *steps)]
    samples = [arm.n_samples for arm in curve]
    return {
        "split": arms.split,
        "method": method,
        "metric": metric,
        "spread": arms.spread,
        "n_seeds": curve[0].n_seeds,
        "samples": samples,
        "value": [v.value for v in values],
        "lo": [v.lo for v in values],
        "hi": [v.hi for v in values],
        "steps": [
            {"from": a, "to": b} | asdict(step)
            for a, b, step in zip(samples[:-1], samples[1:], steps, strict=True)
        ],
        "gain": asdict(gain),
        "trend": asdict(tau),
        "verdict": rising(good[0], good[1], good[2:]),
    }


def rising(gain: Interval, tau: Interval, steps: Sequence[Interval]) -> Verdict:
    """Whether a score rises with the number of draws, as `trend` says it."""
    if "not supported" in (above_zero(gain), *map(above_zero, steps)):
        return "not supported"
    return "supported" if above_zero(gain) == above_zero(tau) == "supported" else "undecided"


def _towards_good(metric: str, found: Interval) -> Interval:
    """The interval, with its sign turned so that more is better."""
    return found if metric == "spearman" else Interval(-found.value, -found.hi, -found.lo)


def kendall(values: Floats) -> float:
    """Kendall's tau of values and their index."""
    upper = np.triu_indices(len(values), 1)
    return float(np.sign(values[upper[1]] - values[upper[0]]).mean())


def above_zero(found: Interval) -> Verdict:
    """The verdict on the claim that a number is positive, by its interval."""
    return "supported" if found.lo > 0 else "not supported" if found.hi < 0 else "undecided"


def _verdict(
    answer: Verdict, metric: str, found: Interval, reason: str, margin: float | None = None
) -> dict[str, Any]:
    if not np.isfinite([found.value, found.lo, found.hi]).all():
        answer = "undecided"
    return {"verdict": answer, "metric": metric, **asdict(found), "margin": margin, "reason": reason}
