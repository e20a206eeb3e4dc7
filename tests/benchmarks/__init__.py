"""Benchmarks: tables that must be shown, and quick tests of the same code."""
