#!/usr/bin/env bash
# Node names are labels for people in ONNX: the checker takes a graph in which two nodes share one, shape inference works on it,
# and the reference evaluator runs it. ONNX Runtime does not open it. Without names the same graph runs. Files that were joined from
# copies of one part have such names.
# Seen with onnx 1.23.2 and onnxruntime 1.31.1.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1 numpy==2.4.6
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

def model(first, second):
    nodes = [helper.make_node("Relu", ["x"], ["h"], name=first), helper.make_node("Sigmoid", ["h"], ["y"], name=second)]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    made = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made

x = np.array([-1, 1], np.float32)
same, unnamed = model("part", "part"), model("", "")
print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
print("checker: takes both; reference evaluator:", ReferenceEvaluator(same).run(None, {"x": x})[0])
print("no names, onnxruntime:", ort.InferenceSession(unnamed.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0])
try:
    ort.InferenceSession(same.SerializeToString(), providers=["CPUExecutionProvider"])
except Exception as error:
    print("equal names, onnxruntime:", str(error).splitlines()[0])
    assert "two nodes with same node name" in str(error)
else:
    raise SystemExit("onnxruntime opens it now")
PYTHON
