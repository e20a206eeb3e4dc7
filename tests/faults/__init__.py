"""What the service promises, tried by killing and stopping its parts. ``python -m tests.faults`` prints the table."""
