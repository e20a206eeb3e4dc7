"""What belongs together, and how it is masked and cut."""
