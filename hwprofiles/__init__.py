"""What a device costs: profiles, latency models and sparsity rules."""
