"""Verdicts: each claim against the predictions, with intervals over trainings and test inputs.

A claim asserts that a difference lies on one side of a bound. It is supported where the whole interval of the
difference does, not supported where none of it does, and undecided otherwise. The claims are those of
`mofgap.study.judge.judgement` where they can be asked of classes, and more about probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.claims.arms import ENSEMBLE, TEMPERED, Arm, TaskArms
from benchmarks.claims.config import JudgementConfig
from benchmarks.claims.gap_scores import GAPS
from benchmarks.claims.scores import CLASSES, Measures
from benchmarks.claims.task import Kind
from mofgap.study.judge.judgement import Bootstrap, Verdict, above_zero, kendall, rising
from mofgap.uncertainty.bootstrap import Interval, intervals
from mofgap.uncertainty.columns import Floats

ALL = "all tasks"
BALORA = (
    *("balora", "balora-closed-form", "balora-scaled", "balora-rows"),
    *("balora-analytic", "balora-constant", "balora-held-out", "balora-near", "balora-distance"),
)
"""Ways to predict of the method that the claims are about; the first is the headline."""
RIVALS = ("lora", TEMPERED, ENSEMBLE, "full", "dropout", "laplace", "blob", "blob-scaled", "lora-distance")
NO_SPREAD = ("lora", "full", TEMPERED)
"""Ways to predict without an epistemic spread."""

CLAIMS = {
    "a": "the spread finds errors better than that of an ensemble of LoRA models",
    "a-few": "the same, with no more samples than the ensemble has members",
    "a-entropy": "the entropy finds errors better than that of an ensemble of LoRA models",
    "a-lora": "the spread finds errors better than the entropy of one LoRA model",
    "b": "the spread finds errors the better the more samples are drawn",
    "c": "no cost of accuracy against LoRA",
    "d": "the noise narrows LoRA's gap in accuracy to full fine-tuning",
    "e": "better likelihood than LoRA",
    "e-tempered": "better likelihood than LoRA at the temperature of best likelihood",
    "f": "better likelihood than an ensemble of LoRA models",
    "g": "the spread finds shifted inputs better than that of an ensemble of LoRA models",
}
OF_GAPS = {
    "a": "the spread follows the error better than that of an ensemble of LoRA models",
    "a-entropy": "the total spread follows the error better than that of an ensemble of LoRA models",
    "a-lora": "the spread follows the error better than the likelihood's spread of one LoRA model",
    "b": "the spread follows the error the better the more samples are drawn",
    "c": "no cost of error against LoRA",
    "d": "the noise narrows LoRA's gap in error to full fine-tuning",
    "e-tempered": "better likelihood than LoRA with its spread times the factor of best likelihood",
}
"""What other words gaps need."""
MEASURES: dict[Kind, Measures] = {"classes": CLASSES, "gaps": GAPS}


@dataclass(frozen=True)
class Judge:
    """Statistics of arms with intervals, for each task and for the mean over tasks.

    Attributes:
        tasks: Arms of each task.
        config: How claims are judged.
    """

    tasks: Sequence[TaskArms]
    config: JudgementConfig

    @property
    def measures(self) -> Measures:
        """The scores of the tasks, which are of one kind."""
        return MEASURES[self.tasks[0].kind]

    def statement(self, claim: str) -> str:
        """A claim in words."""
        words = CLAIMS | OF_GAPS if self.measures is GAPS else CLAIMS
        return words[claim]

    def __call__(
        self,
        statistic: Callable[[Sequence[Arm]], Any],
        arms: Callable[[TaskArms], Sequence[Arm]],
        *,
        one_curve: bool = False,
    ) -> dict[str, list[Interval]]:
        """The intervals of each number of a statistic, by task, and of their means over tasks.

        Args:
            statistic: Of a list of arms.
            arms: The arms of a task.
            one_curve: Whether the arms are of the same trainings.
        """
        values, draws = [], []
        for place, task in enumerate(self.tasks):
            own = arms(task)
            resampled = Bootstrap(self.config.level, self.config.n_draws, self.config.seed + place)
            values.append(np.atleast_1d(statistic(own)))
            draws.append(resampled.draws(statistic, own, one_curve=one_curve))  # type: ignore[arg-type]
        found = {
            task.task: intervals(value, drawn, self.config.level)
            for task, value, drawn in zip(self.tasks, values, draws, strict=True)
        }
        if len(self.tasks) > 1:
            found[ALL] = intervals(np.mean(values, 0), np.mean(draws, 0), self.config.level)
        return found

    def difference(
        self, score: str, mine: tuple[str, int], other: tuple[str, int], other_score: str = ""
    ) -> dict[str, Interval]:
        """A score of one way minus that, or another one, of another; above zero where the first is better."""
        scores, sign = self.measures.all, self.measures.sign(score)
        one, two = scores[score], scores[other_score or score]

        def statistic(both: Sequence[Arm]) -> float:
            return sign * (one(both[0]) - two(both[1]))

        def arms(task: TaskArms) -> list[Arm]:
            take = task.arm if score in self.measures.of_labels else task.with_shifted
            return [take(*mine), take(*other)]

        return {task: each[0] for task, each in self(statistic, arms).items()}

    def verdicts(self) -> Iterator[dict[str, Any]]:
        """One verdict a claim, way of predicting and task."""
        for way in BALORA:
            mine = self.most(way)
            if mine is None:
                continue
            spread, total, quality = self.measures.by_spread, self.measures.by_total, self.measures.quality
            rows = [
                ("a", self._against(spread, mine, ENSEMBLE)),
                ("a-few", self._against(spread, self._few(way), ENSEMBLE)),
                ("a-entropy", self._against(total, mine, ENSEMBLE)),
                ("a-lora", self._against(spread, mine, "lora", other_score=total)),
                ("b", self._rising(way)),
                ("c", self._against(quality, mine, "lora", margin=self.config.margin)),
                ("d", self._narrowing(mine)),
                ("e", self._against("nll", mine, "lora")),
                ("e-tempered", self._against("nll", mine, TEMPERED)),
                ("f", self._against("nll", mine, ENSEMBLE)),
                ("g", self._against("auroc_shifted_epistemic", self.most(way, "shifted"), ENSEMBLE)),
            ]
            for claim, found in rows:
                for task, verdict in found.items():
                    about = {"claim": claim, "statement": self.statement(claim)}
                    yield about | {"way": way, "task": task} | verdict

    def pairs(self) -> Iterator[dict[str, Any]]:
        """Differences of the headline to every rival, in every score that both have."""
        for rival in RIVALS:
            for score in self.measures.all:
                if score.endswith("epistemic") and rival in NO_SPREAD:
                    continue
                split = "test" if score in self.measures.of_labels else "shifted"
                mine, other = self.most(BALORA[0], split), self.most(rival, split)
                if mine is None or other is None:
                    continue
                for task, found in self.difference(score, mine, other).items():
                    about = {"a": _named(mine), "b": _named(other), "score": score, "task": task}
                    yield about | asdict(found)

    def most(self, way: str, split: str = "test") -> tuple[str, int] | None:
        """A way with the most samples that all its trainings have; ``None`` if a task lacks it."""
        numbers = self._numbers(way, split)
        return (way, max(numbers)) if numbers else None

    def _few(self, way: str) -> tuple[str, int] | None:
        """A way with the most samples that are no more than the ensemble has members."""
        ensemble = self.most(ENSEMBLE)
        numbers = {n for n in self._numbers(way, "test") if ensemble and 2 <= n <= ensemble[1]}
        return (way, max(numbers)) if numbers else None

    def _numbers(self, way: str, split: str) -> set[int]:
        """Numbers of samples that all trainings of a way have in all tasks, on test or on shifted inputs."""
        found: list[set[int]] = []
        for task in self.tasks:
            names = ["test"] if split == "test" else task.shifts
            own = {n for name, n, where in task.estimates if name == way and where in names}
            most = max((len(task.estimates[way, n, "test"]) for n in own), default=0)
            found.append({n for n in own if len(task.estimates[way, n, "test"]) == most})
        return set.intersection(*found)

    def _against(
        self,
        score: str,
        mine: tuple[str, int] | None,
        rival: str,
        *,
        margin: float = 0.0,
        other_score: str = "",
    ) -> dict[str, dict[str, Any]]:
        """A verdict for each task: is a score better, but for a margin, than that of a rival?"""
        other = self.most(rival, "shifted" if score in self.measures.of_shift else "test")
        if mine is None or other is None:
            return {}
        reason = f"{score} of {_named(mine)} minus {other_score or score} of {_named(other)}"
        reason += " with the sign turned" if self.measures.sign(score) < 0 else ""
        return {
            task: _verdict(above_zero(shifted(found, margin)), score, found, reason)
            for task, found in self.difference(score, mine, other, other_score).items()
        }

    def _narrowing(self, mine: tuple[str, int]) -> dict[str, dict[str, Any]]:
        if self.most("lora") is None or self.most("full") is None:
            return {}
        score = self.measures.quality
        measure, sign = self.measures.all[score], self.measures.sign(score)

        def statistic(three: Sequence[Arm]) -> list[float]:
            own, lora, full = map(measure, three)
            return [sign * (own - lora), sign * (full - lora)]

        found = self(statistic, lambda task: [task.arm(*mine), task.arm("lora", 1), task.arm("full", 1)])
        verdicts = {}
        for task, (gained, gap) in found.items():
            answer: Verdict = "not supported" if gap.hi <= 0 else above_zero(gained)
            if answer == "supported" and gap.lo <= 0:
                answer = "undecided"
            words = f"{score} minus LoRA's" + (" with the sign turned" if sign < 0 else "")
            words += f"; full fine-tuning minus LoRA is {gap.value:+.3f} ({gap.lo:+.3f} to {gap.hi:+.3f})"
            verdicts[task] = _verdict(answer, score, gained, words)
        return verdicts

    def _rising(self, way: str) -> dict[str, dict[str, Any]]:
        """Claim b: gain from the first to the last number, Kendall's tau, and no step to the worse."""
        numbers = sorted(n for n in self._numbers(way, "test") if n > 1)
        if len(numbers) < 2:
            return {}
        score = self.measures.by_spread
        measure = self.measures.all[score]

        def statistic(curve: Sequence[Arm]) -> Floats:
            values = np.array([measure(arm) for arm in curve])
            return np.concatenate([[values[-1] - values[0], kendall(values)], np.diff(values)])

        found = self(statistic, lambda task: [task.arm(way, n) for n in numbers], one_curve=True)
        reason = f"{score} at S = {numbers[-1]} minus S = {numbers[0]}"
        return {
            task: _verdict(rising(gain, tau, steps), score, gain, reason)
            for task, (gain, tau, *steps) in found.items()
        }


def shifted(found: Interval, by: float) -> Interval:
    """An interval of a number that is larger."""
    return Interval(found.value + by, found.lo + by, found.hi + by)


def _verdict(answer: Verdict, score: str, found: Interval, reason: str) -> dict[str, Any]:
    return {"verdict": answer, "score": score, **asdict(found), "reason": reason}


def _named(way: tuple[str, int]) -> str:
    return f"{way[0]}@{way[1]}" if way[1] > 1 else way[0]
