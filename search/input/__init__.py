"""Samples and what their labels mean: reading, checking, dividing."""
