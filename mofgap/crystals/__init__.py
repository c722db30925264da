"""From CIF text to crystal graphs."""
