"""Tests of search.space.structures."""
