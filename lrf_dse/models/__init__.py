"""Model files in and out: read, find FC layers, rewrite, evaluate, and the data that belongs to a model.

    reader     a model file -> Model (one reader per suffix)
    model      Model: the graph as ONNX IR, its FC layers and totals
    discover   which nodes are FC layers, and which are not, with the reason
    rewrite    chosen layers -> transpose-free chains of Reshape and MatMul, or calls of kernels (kernel_call)
    data       calibration and validation arrays, checked against the model
    calibrate  the second moment of every FC layer's input
    evaluate   outputs and accuracy with onnxruntime

This room knows ONNX; it knows no target, compiler or record. Heavy imports happen inside functions.
"""
