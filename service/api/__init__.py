"""The HTTP side: thin. Parse, call a store, answer."""
