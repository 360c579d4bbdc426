"""Fronts and whole-model selection: pure functions over measured or predicted numbers, all minimised.

Reads no file, runs no tool and never looks at weights. `front` is about points, `select` about combinations of layer
options, `choice` about one measured plan.
"""
