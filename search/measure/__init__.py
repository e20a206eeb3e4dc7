"""Timing on this machine: sessions, stopwatch, runtimes, profiles of hosts."""
