"""Accuracy with intervals, parity in the runtime, timing, calibration of this machine."""
