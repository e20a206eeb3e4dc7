"""Tests of search.allocate."""
