"""Tests of search.candidates."""
