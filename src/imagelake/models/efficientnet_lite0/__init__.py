"""EfficientNet-Lite0: the architecture, its weights, and the ONNX graphs in fp32 and int8 that we build from them."""
