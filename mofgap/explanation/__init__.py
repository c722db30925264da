"""Showing which atoms a gap and its uncertainty come from."""
