"""Tests of search.graph.run."""
