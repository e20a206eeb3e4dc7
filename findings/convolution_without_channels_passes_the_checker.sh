#!/usr/bin/env bash
# What pruning may leave behind: a convolution with no output channels, read by one that sums over nothing. The full check and shape
# inference take it, and by the definition its result is the second bias. ONNX Runtime opens the file and refuses to run it.
# Seen with onnx 1.23.2 and onnxruntime 1.31.1.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1 numpy==2.4.6
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

nodes = [helper.make_node("Conv", ["x", "w1"], ["h"]), helper.make_node("Conv", ["h", "w2", "b"], ["y"])]
weights = {"w1": np.zeros((0, 3, 1, 1)), "w2": np.zeros((2, 0, 1, 1)), "b": np.array([1, 2])}
graph = helper.make_graph(
    nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 4, 4])],
    [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
print("full check: takes it")
try:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    session.run(None, {"x": np.ones((1, 3, 4, 4), np.float32)})
except Exception as error:
    print("onnxruntime:", str(error).splitlines()[0])
else:
    raise SystemExit("onnxruntime runs it now")
PYTHON
