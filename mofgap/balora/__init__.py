"""Bayesian low-rank adaptation (BaLoRA, arXiv 2605.08110) for any torch model."""
