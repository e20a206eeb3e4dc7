"""From an ONNX file to a graph, and from a graph to a file."""
