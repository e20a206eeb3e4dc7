"""Tests of search.measure."""
