"""Export: checkpoint -> ONNX -> bundle, each step proved equal to PyTorch."""
