"""The comparison of methods: trained alike, measured alike, and a verdict on each claim."""
