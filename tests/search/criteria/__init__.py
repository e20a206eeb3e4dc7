"""Tests of search.criteria."""
