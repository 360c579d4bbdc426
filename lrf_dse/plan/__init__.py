"""Fronts and whole-model selection: pure functions over measured or predicted numbers, all minimised.

Reads no file, runs no tool and never looks at weights; see `front` for points, `select` for plans.
"""
