"""The band-gap model: encoder, adapters and head, its predictions and its folder on disk."""
