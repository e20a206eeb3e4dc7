"""Small networks whose timings fit the latency model of a machine."""
