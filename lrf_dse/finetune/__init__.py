"""The weights of a whole plan, where they depend on more than one layer's own inputs.

    sequential   later layers fitted to what the compressed earlier ones really give them
    reorder      hidden units in the order in which the layers on both sides of them fit best
    train        end to end, where TensorFlow knows every operation: graph is an ONNX model as TensorFlow variables,
                 operations what its nodes mean, objective the loss, checkpoint what a stopped training goes on from
    recover      trained constants back to cores

Every way returns `models.rewrite.Replacement`s by layer name, so that a plan is judged, kept and exported in the same
manner however its weights came about. This room knows models and fits; it knows no target, runner or record.
"""
