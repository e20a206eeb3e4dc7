"""Tests of search.judge."""
