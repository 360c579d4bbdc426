"""Model files of other frameworks, each read into ONNX: one module for each format.

    source          what a reader gives, and its Protocol
    registry        which reader reads which file, and what is refused with the way out
    onnx_file       .onnx, with `external` data

A reader runs no code of the file: pickles are refused, archives have limits, and nothing outside the file is opened.
"""
