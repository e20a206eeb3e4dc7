"""Tests of search.repair."""
