"""Functions from record batch to record batch: describe, extract."""
