"""Tests of search.graph.edit."""
