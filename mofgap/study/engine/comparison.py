"""The stages of a comparison: files in, files out, each skipped where its output is there already.

`run_all` calls them one after the other; a workflow may call them as separate jobs.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path

from mofgap.configuration import ConfigurationError
from mofgap.study.config import ComparisonConfig, ComputeConfig

MALLOC = {
    # torch frees and asks for large blocks all the time; giving each back to the system costs a third of the
    # time of a training on a CPU.
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
}


def prepare(config: ComparisonConfig, run: Path) -> None:
    """Rows, splits and graphs, in ``dataset``; what others published is looked at too."""
    from mofgap.study import dataset
    from mofgap.study.methods import baselines, encoder

    if find_spec("laplace") is None and any(s.trainings.lora for s in config.splits.values()):
        raise ConfigurationError("the Laplace approximation of LoRA needs pip install 'mofgap[study]'")
    encoder.check_blocks(config)
    found = dataset.prepare(config, run, encoder.graph_config(config))
    if config.data.published is not None:
        baselines.published_gaps(config.data, found.frame.structure_id.tolist())


def encode(config: ComparisonConfig, run: Path) -> None:
    """The pretrained encoder, in ``encoder``, and its features of every structure; after `prepare`."""
    from mofgap.study import dataset
    from mofgap.study.methods import encoder

    encoder.take(config, run)
    encoder.features(config, run, dataset.read(run), config.recipe)


def train(config: ComparisonConfig, run: Path, name: str) -> None:
    """One training, in ``members/NAME``."""
    from mofgap.study.methods.training import train as train_member

    train_member(config, run, name)


def predict(config: ComparisonConfig, run: Path, name: str) -> None:
    """One file of predictions, ``predictions/NAME.parquet``."""
    from mofgap.study.methods.prediction import predict as predict_one

    predict_one(config, run, name)


def calibrate(config: ComparisonConfig, run: Path, split: str) -> None:
    """The predictions of a split with calibrated spreads, ``calibrated/SPLIT.parquet``."""
    from mofgap.study.judge.calibrated import calibrate as calibrate_split

    calibrate_split(config, run, split)


def compare(config: ComparisonConfig, run: Path) -> None:
    """All predictions in one table, their scores, and the verdicts."""
    from mofgap.study.judge.summary import summarise

    summarise(config, run)


def run_all(config: ComparisonConfig, run: Path, say: Callable[[str], None]) -> None:
    """Every stage; what an earlier run finished is not done again.

    Each training runs in a process of its own, so that its peak memory is its own.

    Args:
        config: The comparison.
        run: Its run folder.
        say: Told of each step.
    """
    import torch

    from mofgap.study.dataset import skipped
    from mofgap.study.judge.calibrated import calibrated
    from mofgap.study.members import members, predictions
    from mofgap.study.methods.prediction import predicted
    from mofgap.study.methods.training import trained

    n_threads = torch.get_num_threads()
    torch.set_num_threads(int(_threads(config.compute)))
    try:
        say("prepare")
        prepare(config, run)
        for line in skipped(run):
            say(f"skipped {line}")
        say("encode")
        encode(config, run)
    finally:
        torch.set_num_threads(n_threads)
    _each(train, trained, config, run, [member.name for member in members(config)], say)
    first = [p.name for p in predictions(config) if not p.predictions]
    _each(predict, predicted, config, run, first, say)
    _each(predict, predicted, config, run, [p.name for p in predictions(config) if p.predictions], say)
    _each(calibrate, calibrated, config, run, list(config.splits), say)
    say("compare")
    compare(config, run)


def _each(
    stage: Callable[[ComparisonConfig, Path, str], None],
    is_done: Callable[[ComparisonConfig, Path, str], bool],
    config: ComparisonConfig,
    run: Path,
    names: Sequence[str],
    say: Callable[[str], None],
) -> None:
    """Run a stage for each name that is not done, ``config.compute.jobs`` at a time."""
    from mofgap.training.loop import TrainingError

    missing = [name for name in names if not is_done(config, run, name)]
    if not missing:
        return
    if int(os.environ.get("LOCAL_RANK", "0")):  # one more process of a training on several devices
        stage(config, run, missing[0])  # which ends with it
    jobs = config.compute.jobs
    for key, value in (MALLOC | {"OMP_NUM_THREADS": _threads(config.compute)}).items():
        os.environ[key] = value  # read when a process starts
    spawn = multiprocessing.get_context("spawn")
    alone = 1 if stage is train else None
    with ProcessPoolExecutor(jobs, spawn, _begin_worker, max_tasks_per_child=alone) as pool:
        started = {pool.submit(stage, config, run, name): name for name in missing}
        try:
            for done, future in enumerate(as_completed(started), 1):
                future.result()
                say(f"{stage.__name__} {started[future]} ({done} of {len(missing)})")
        except BrokenProcessPool as error:
            what = f"a process of stage {stage.__name__} died, perhaps for want of memory"
            raise TrainingError(f"{what}: the same command goes on from there") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _threads(compute: ComputeConfig) -> str:
    """Of a process: one, whatever the number of jobs, since sums on other numbers differ in last digits.

    On a GPU it is the GPU that sums.
    """
    import torch

    on_gpu = compute.device != "cpu" and torch.cuda.is_available()
    return str(max(1, (os.cpu_count() or 1) // compute.jobs)) if on_gpu else "1"


def _begin_worker() -> None:
    """Keep Lightning's advice off the terminal, and end as soon as the process that started it is gone."""
    warnings.filterwarnings("ignore", module="lightning")
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
