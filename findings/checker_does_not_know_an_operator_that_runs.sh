#!/usr/bin/env bash
# ThresholdedRelu has been in the standard since operator set 10. ONNX Runtime also runs it in a model that imports operator set 9, as
# older converters wrote it; the checker refuses that model as one with an unknown operator. "Passes the checker" and "runs" differ
# in this direction too.
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

node = helper.make_node("ThresholdedRelu", ["x"], ["y"], alpha=0.5)
values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("x", "y")]
model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
y = session.run(None, {"x": np.array([0.25, 0.75, 2], np.float32)})[0]
print("onnxruntime:", y)
assert y.tolist() == [0, 0.75, 2]
try:
    onnx.checker.check_model(model)
except onnx.checker.ValidationError as error:
    print("checker:", str(error).splitlines()[0])
    assert "No Op registered for ThresholdedRelu" in str(error)
else:
    raise SystemExit("the checker takes it now")
PYTHON
