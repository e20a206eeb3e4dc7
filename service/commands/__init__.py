"""The commands of ``secateur``, by where the work happens: here, in a service, or by being the service."""
