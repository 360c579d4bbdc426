"""Model files in and out: read, find FC layers, rewrite, evaluate, and the data that belongs to a model.

    readers, reader      a model file of any framework becomes ONNX (one reader per suffix), then a Model
    canonical            the one form of a graph that everything else here works on
    model, site          Model: the graph as ONNX IR, its FC layers and totals; where a layer stands in the graph
    discover, inventory  which nodes are FC layers, and where every other weight is, with the reason
    sources, data        calibration and validation arrays: read, checked against the model (`targets`), split (`parts`)
    metrics, bounds      what accuracy means; how much of it a plan loses, and how sure that is
    evaluate, fed        outputs with onnxruntime: of a model as it is, or of many choices by one session (`segments`)
    calibrate            the second moment of every FC layer's input
    layer_fit, compress  the fit of one layer; those of a whole model
    hidden               where hidden units may stand in another order
    rewrite              chosen layers become transpose-free chains (`chain`), or calls of kernels (`kernel_call`)
    stored               the weights of a plan as a file; `few_bits_file` writes them into the ONNX model

This room knows ONNX; it knows no target, compiler or record. Heavy imports happen inside functions.
"""
