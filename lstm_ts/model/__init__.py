"""The way from hourly bars to a forecast, and the training of what forecasts."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reads it while it is imported
