"""How to prune: an ONNX file, a data set and device profiles in; a measured accuracy/latency front out.

Only `search.wire.request`, `search.wire.report` and `search.wire.errors` are public. They load neither JAX nor ONNX.
"""
