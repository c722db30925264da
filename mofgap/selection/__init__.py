"""Which structures to compute next, and ready inputs for them."""
