"""Anything that yields pictures."""
