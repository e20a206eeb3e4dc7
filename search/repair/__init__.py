"""Repair in closed form: single maps, blocks, statistics."""
