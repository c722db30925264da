"""A page and an HTTP interface for screenings: ``mofgap serve``."""
