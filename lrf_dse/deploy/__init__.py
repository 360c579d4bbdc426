"""Turn a chosen plan into files that run on a board.

bundle        writes model.onnx, model.vmfb, the static program, golden data, manifest and instructions
instructions  writes the README of a bundle
whole         writes and checks the digests that tell whether a bundle is whole
board         puts a bundle on a board, measures it there, and keeps the figures
"""
