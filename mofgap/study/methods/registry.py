"""Methods by name, in the order of tables: the only place that knows which there are."""

METHODS: dict[str, str] = {
    "balora": "mofgap.study.methods.balora:Balora",
    "lora-ensemble": "mofgap.study.methods.ensemble:LoraEnsemble",
    "laplace": "mofgap.study.methods.laplace:Laplace",
    "dropout": "mofgap.study.methods.dropout:Dropout",
    "lora": "mofgap.study.methods.lora:Lora",
    "full": "mofgap.study.methods.full:Full",
    "scratch": "mofgap.study.methods.full:Scratch",
    "composition": "mofgap.study.methods.composition:Composition",
    "mean": "mofgap.study.methods.mean:Mean",
    "published": "mofgap.study.methods.published:Published",
}
"""Name of a method, as in the names of its files, and its ``module:Class``.

The module is imported when it is asked for. The key of a training or prediction follows the modules of its
own method alone: a change of one method makes no result of another stale.
"""
