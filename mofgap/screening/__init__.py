"""A stream of files in, a ranked table out."""
