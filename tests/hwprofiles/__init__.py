"""Profiles, latency models and fits."""
