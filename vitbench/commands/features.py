"""`vitbench features`: what a trained model makes of images, in a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from vitbench.commands.arguments import (
    LOCAL_RESULTS,
    AsJson,
    DataRoot,
    DeviceOptions,
    Download,
    Out,
    Results,
    StudyFiles,
)
from vitbench.commands.callbacks import one_of
from vitbench.commands.options import with_options
from vitbench.config import MOST
from vitbench.text import counted

if TYPE_CHECKING:
    from vitbench.data.loading import OnProgress
    from vitbench.device import Device
    from vitbench.inspection.features import FeatureExtractor


@dataclass(frozen=True)
class FeatureOptions:
    """What `features` and `probe` take alike: whose features of which images, and at which precision."""

    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run_id of --results or its beginning, FILE.safetensors, STUDY:ARM or timm:NAME."
        ),
    ]
    data: Annotated[
        str,
        typer.Option(help="Data set: a name, a folder, FILE.npz or FILE.py[:NAME]; resized to what the model takes."),
    ]
    data_root: DataRoot = None
    batch_size: Annotated[int, typer.Option(min=1, max=MOST, help="Images whose features are computed at a time.")] = (
        256
    )
    precision: Annotated[str, typer.Option(callback=one_of("fp32", "bf16"), help="fp32 or bf16.")] = "fp32"
    results: Results = LOCAL_RESULTS
    study: StudyFiles = None
    download: Download = False

    def extractor(self, device: Device, progress: OnProgress) -> FeatureExtractor:
        from vitbench.data import describe
        from vitbench.execution.kept_run import kept_run
        from vitbench.inspection.features import make_extractor
        from vitbench.inspection.loaded_model import load_images, load_model

        info = describe(self.data, root=self.data_root, download=self.download)
        loaded = load_model(kept_run(self.run, self.results), self.results, in_channels=info.in_channels)
        loaded, data = load_images(
            loaded, self.data, info, data_root=self.data_root, download=self.download, progress=progress
        )
        return make_extractor(
            loaded, data, device, precision=self.precision, batch_size=self.batch_size, progress=progress
        )


@with_options
def features(
    options: FeatureOptions,
    out: Out,
    split: Annotated[str, typer.Option(callback=one_of("train", "test"), help="train or test.")] = "test",
    device_options: DeviceOptions = DeviceOptions(),
    as_json: AsJson = False,
) -> None:
    """What a trained model makes of images: its pre-logits, with ids and labels, in a file."""
    from vitbench.evaluation.exports import check_export
    from vitbench.execution import display
    from vitbench.inspection.features import export_features

    check_export(out)
    with display.progress(f"reading {options.data}") as progress:
        extractor = options.extractor(device_options.open_device(), progress)
        document = export_features(extractor, out, split)
    if as_json:
        print(json.dumps(document))
    else:
        print(
            f"{document['images']:,} images of {document['dataset']} {split}, {counted(document['width'], 'feature')} each, "
            f"of {document['weights']}: {out}"
        )
