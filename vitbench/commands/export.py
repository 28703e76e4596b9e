"""`vitbench export`: a trained model, for use elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vitbench.commands.arguments import LOCAL_RESULTS, AsJson, Results
from vitbench.commands.callbacks import one_of
from vitbench.files import expanded


def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run_id of --results or its beginning, or FILE.safetensors.")
    ],
    to: Annotated[
        str,
        typer.Option(callback=one_of("safetensors", "timm", "onnx"), help="safetensors, timm or onnx (extra onnx)."),
    ],
    out: Annotated[Path, typer.Option(callback=expanded, help="The file; of timm, a folder.")],
    results: Results = LOCAL_RESULTS,
    as_json: AsJson = False,
) -> None:
    """Write a trained model for use elsewhere; it is read back and its outputs compared before this returns."""
    from vitbench.inspection.model_export import export_model
    from vitbench.models.weights import find_weights, load_trained

    document = export_model(load_trained(find_weights(run, results)), out, to)
    if as_json:
        print(json.dumps(document))
    else:
        print(
            f"{out}: {document['weights']} as {to}; logits agree to {document['largest_difference']:.0e} of the largest"
        )
