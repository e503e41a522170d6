"""Bytes to upright RGB arrays and back, and what can be measured on them. NumPy in, NumPy out."""
