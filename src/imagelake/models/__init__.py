"""Model files with their manifests, and the runtimes that run them. NumPy only.

A model is a file of weights plus a `Manifest` (`imagelake.models.manifest`); `imagelake.models.zoo` lists the known
ones, `imagelake.models.embedder` opens one, and `imagelake.models.onnx_runtime` runs its graph.
"""
