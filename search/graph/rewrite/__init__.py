"""Rewrites of the view that is searched; the file itself never changes by them."""
