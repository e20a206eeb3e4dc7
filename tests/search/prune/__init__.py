"""Tests of search.prune."""
