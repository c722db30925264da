"""Runs that can be repeated, resumed and moved to a cluster: stages, run folders, the Snakemake workflow."""
