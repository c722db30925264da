"""The claims about BaLoRA on classification tasks: the same protocol for language and for images."""
