"""Pretraining of encoders and fine-tuning of gap models."""
