"""Tests of search.wire."""
