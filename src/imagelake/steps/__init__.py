"""Functions from record batch to record batch: describe, embed."""
