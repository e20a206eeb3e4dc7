"""Tests of search.input."""
