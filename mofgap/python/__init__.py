"""The Python side of the commands: `mofgap.screen`, `mofgap.select`, `mofgap.explain` and more."""
