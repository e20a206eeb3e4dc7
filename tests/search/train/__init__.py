"""Tests of search.train."""
