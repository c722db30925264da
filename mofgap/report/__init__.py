"""What people look at: plots, and a screening as one page."""
