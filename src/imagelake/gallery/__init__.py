"""What the page and notebooks ask of a lake: lists, counts, neighbors, groups. Speaks NumPy and words, no HTTP."""
