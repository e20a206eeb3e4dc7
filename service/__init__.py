"""Who asked and where it is: HTTP, rows, workers. Never loads JAX; a job runs in a process of its own."""
