"""The comparison of methods: the same training and metrics for each, and a verdict on each claim."""
