"""What can be turned: groups of channels, blocks, zeros, and what a plan of them makes of a network."""
