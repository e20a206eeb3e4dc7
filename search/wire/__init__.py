"""What a client and the service see: request, report, errors, progress. Loads neither JAX nor ONNX."""
