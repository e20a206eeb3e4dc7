"""Revisions, oldest first. Each only adds, so that the previous release goes on beside the new one."""
