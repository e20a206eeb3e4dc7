"""Mirrors the packages, plus laws, contract, end to end, browser and benchmarks."""
