"""The contract, tried with generated requests."""
