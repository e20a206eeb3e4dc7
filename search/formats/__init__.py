"""Formats of other runtimes, a folder each."""
