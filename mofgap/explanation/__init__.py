"""Shares of the atoms in a gap and in its variance."""
