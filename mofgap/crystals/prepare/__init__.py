"""From the structure of a file to the one that DFT would see, each change told in a note."""
