"""From what can be turned to repaired candidates."""
