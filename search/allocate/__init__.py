"""Dividing latency over layers, one strategy a file over `base`."""
