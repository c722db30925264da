"""Select the structures to compute next, and write inputs for them."""
