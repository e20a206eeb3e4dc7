"""Tests of repair and training."""
