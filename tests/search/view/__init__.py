"""Tests of search.view."""
