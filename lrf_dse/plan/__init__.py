"""Fronts and whole-model selection: pure functions over measured or predicted numbers, all minimised.

Reads no file, runs no tool and never looks at weights. `select` is about combinations of layer options, `choice` about
one measured plan.
"""
