"""Tests of search.formats.litert."""
