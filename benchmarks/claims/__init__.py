"""The claims about BaLoRA: the same protocol for language, for images and for gaps of MOFs."""
