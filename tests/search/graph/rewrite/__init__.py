"""Tests of search.graph.rewrite."""
