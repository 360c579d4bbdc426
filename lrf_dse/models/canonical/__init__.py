"""From the ONNX that a reader gives to the one form that the rest of the product works on, step by step.

    header      opsets and IR versions; old models are converted up
    tensors     constants: checked, sparse ones made dense, float16 and float64 made float32
    results     which outputs are kept: tensors that can be compiled, or those that the user names
    axes        sizes of dynamic axes
    fixed       inputs that are always the same become constants
    batch       which axis holds samples that do not mix
    contrib     operations of onnxruntime's optimiser as standard ones (attention beside it)
    learners    operations of ai.onnx.ml as standard ones
    quantised   8-bit and 4-bit models computed in float32, on request (`qlinear`: a family; `integers`: what they mean)
    folding     what depends on no input becomes a constant
    shapes      every shape, by ONNX's inference, then by onnxruntime's
    dense       Gemm, Einsum and their like as MatMul with a constant [in, out] on the right, and an Add
    build       the order of these steps

Layers that a step would make slower (1x1 convolutions, constants on the left) keep their operation: `discover` reads
them as they are, and only what replaces them is written in another form.
"""
