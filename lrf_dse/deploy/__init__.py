"""Turn a chosen plan into files that run on a board.

bundle     model.onnx, model.vmfb, the static program, golden data, manifest and instructions
board      puts a bundle on a board, measures it there, and keeps what the board said
"""
