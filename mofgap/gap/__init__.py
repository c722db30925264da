"""The band-gap model: encoder, adapters and head, its training and its folder on disk."""
