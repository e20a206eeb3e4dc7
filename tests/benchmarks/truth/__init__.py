"""Whether what a report says is true: ``python -m tests.benchmarks.truth``, see ``__main__``."""
