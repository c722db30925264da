"""What a comparison looks like: its page and its plots."""
