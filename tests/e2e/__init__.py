"""From the outside: processes and HTTP."""
