"""The report as a page, and its plots."""
