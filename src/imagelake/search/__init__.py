"""Vectors in, `(distances, ids)` out. NumPy only."""
