"""Training of candidates for minutes that the client gives."""
