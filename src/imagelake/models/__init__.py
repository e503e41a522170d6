"""Model files with their manifests, and the runtimes that run them. NumPy only."""
