"""Tests of search.structures."""
