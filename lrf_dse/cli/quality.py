"""The options of a command that say what quality is: the data, the metric, what may be lost, how often to look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None,
    typer.Option(
        help="Samples x, targets y, and groups of samples that belong together: an .npz, a folder of .npy, or "
        "module:function. Without it accuracy is unknown."
    ),
]
Calibration = Annotated[
    Path | None, typer.Option(help="Samples that decomposers see, such as training data; default a part of --data.")
]
MetricName = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="top1, top5, balanced, agreement (with the dense model), mse, cosine, or module:function. "
        "Default: top1 with labels, mse with values, agreement without y.",
    ),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        help="What may be lost: points of top1, top5, balanced and agreement; percent of what the dense model has in "
        "mse and cosine; of a metric of your own its own unit."
    ),
]
Top = Annotated[
    int | None,
    typer.Option(help="TT shapes measured for each layer; with data half as many of low rank beside them."),
]
Bits = Annotated[
    str | None,
    typer.Option(
        help="How weights may be stored: of fp32,fp16,int8,int4, fp32 among them. Default: what the chip computes well."
    ),
]
Evaluations = Annotated[int | None, typer.Option(help="Times the model may be evaluated to choose plans; default 400.")]
Finetune = Annotated[int, typer.Option(help="Epochs that every plan is trained for, toward the dense model.")]
Train = Annotated[
    Path | None, typer.Option(help="Samples to train on, as --data; default what decomposers see. Never the test data.")
]
