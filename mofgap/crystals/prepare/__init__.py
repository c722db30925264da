"""From the structure of a file to the one that DFT would see, with a note for each change."""
