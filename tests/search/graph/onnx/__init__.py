"""Tests of search.graph.onnx."""
