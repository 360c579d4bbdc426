"""Train what a plan put in the place of a model's weights: end to end where TensorFlow knows every operation.

graph is an ONNX model as TensorFlow variables, operations what its nodes mean, objective the loss, train the epochs.
"""
