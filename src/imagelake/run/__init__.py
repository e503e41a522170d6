"""The same pipeline here or elsewhere: receipts, resume, progress, accounting."""
