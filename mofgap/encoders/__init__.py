"""Pretrained encoders: crystal graphs to atom features."""
