"""Tests of search.graph."""
