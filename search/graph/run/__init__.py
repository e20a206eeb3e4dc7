"""Running a graph: its interpreter, its segments, what ONNX Runtime carries, what a device would run."""
