"""Tests of search.formats."""
