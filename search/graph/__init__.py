"""ONNX graphs: read, normalised, run in JAX, coupled, priced and written back."""
