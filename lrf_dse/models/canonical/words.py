"""What other libraries say about a model, in one line."""

from __future__ import annotations


def checker_line(error: BaseException) -> str:
    """The message of `error` without the line breaks and marks of ONNX's checker."""
    return " ".join(str(error).replace("==> Context: ", "").split())
