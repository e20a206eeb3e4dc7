"""Structures of zeros and of widths, one file each."""
