"""Trained weights as files: one safetensors file a run, with the whole configuration that it came from inside."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from vitbench.config import RunConfig
from vitbench.files import ANOTHER_RESULTS, cannot_write, entries, write_whole
from vitbench.models.timm_models import TimmModel
from vitbench.models.user_models import UserModel
from vitbench.models.vit import ViT
from vitbench.refusals import one_line

FORMAT = "1"
"""Raised whenever the metadata change; a file of another format is refused."""
KEYS = {"run_id", "config", "mean", "std", "weights_sha256"}
SUFFIX = ".safetensors"
_RUN = re.compile(r"[0-9a-f]{4,16}")


@dataclass(frozen=True)
class Trained:
    """A model as a run left it, in evaluation mode and float32 on the CPU, and what it was trained on.

    `mean` and `std` (per channel, of pixels in [0, 1]) are what its images were normalised with.
    """

    model: ViT | TimmModel | UserModel
    config: RunConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights_sha256: str
    run_id: str
    """As it was when they were written: a field that the configuration has since gained gives it another one."""
    class_names: tuple[str, ...] = ()
    """By label; empty where the classes have no names, and of files that were written before names were kept."""

    @property
    def identity(self) -> str:
        """`run:`, the run_id, `@`, and 8 hex digits of the weights' SHA-256: what starts from them names them so."""
        return f"run:{self.run_id}@{self.weights_sha256[:8]}"


def weights_sha256(model: nn.Module) -> str:
    """Of every parameter, then every buffer, in the model's order: its name in UTF-8, its values row by row."""
    digest = hashlib.sha256()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_trained(
    path: Path,
    model: nn.Module,
    config: RunConfig,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    class_names: Sequence[str] = (),
) -> None:
    """Writes the file, whole or not at all. Raises ValueError where it cannot be written."""
    metadata = {
        "vitbench": FORMAT,
        "run_id": config.run_id,
        "config": config.canonical_json(),
        "mean": json.dumps(list(mean)),
        "std": json.dumps(list(std)),
        "weights_sha256": weights_sha256(model),
        "class_names": json.dumps(list(class_names)),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in _unshared(model).items()}
    try:
        write_whole(path, save(tensors, metadata=metadata))
    except (OSError, SafetensorError) as error:
        raise cannot_write("weights", path, error, ANOTHER_RESULTS) from error


def _unshared(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's state under one name each: safetensors refuses two names of one tensor, as shared tables have them."""
    state = model.state_dict(keep_vars=True)
    first_names = {id(value): name for name, value in reversed(state.items())}
    return {name: state[name] for name in state if first_names[id(state[name])] == name}


def load_trained(path: str | Path) -> Trained:
    """What `save_trained` wrote. Raises ValueError for a file that is not there, not one of these, or damaged."""
    from vitbench.models import build_model

    path = Path(path)
    try:
        path.open("rb").close()  # raises the reason, where safetensors says of any file that it is not there
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"weights {str(path)!r} cannot be read: {reason}") from error
    if metadata.get("vitbench") != FORMAT or not metadata.keys() >= KEYS:
        raise ValueError(
            f"weights {str(path)!r} are not a run's of this vitbench (format {metadata.get('vitbench')!r}, not "
            f"{FORMAT!r}); train them again"
        )
    try:
        config = RunConfig.model_validate_json(metadata["config"])
    except ValueError as error:
        raise ValueError(f"weights {str(path)!r} have a configuration that is not ours: {one_line(error)}") from error
    model = build_model(config.model)
    state = model.state_dict()
    if set(tensors) != set(_unshared(model)) or any(state[n].shape != v.shape for n, v in tensors.items()):
        raise ValueError(f"weights {str(path)!r} are not those of the configuration inside; train them again")
    model.load_state_dict(tensors, strict=False)
    sha256 = weights_sha256(model)
    if sha256 != metadata["weights_sha256"]:
        raise ValueError(f"weights {str(path)!r} are damaged: their SHA-256 is another than the one inside")
    mean, std = (tuple(json.loads(metadata[name])) for name in ("mean", "std"))
    class_names = tuple(json.loads(metadata.get("class_names", "[]")))
    return Trained(model.eval(), config, mean, std, sha256, metadata["run_id"], class_names)


def differing_class(of_model: Sequence[str], of_images: Sequence[str]) -> str:
    """The first difference between the class names of a model and of its images, in words; empty without one, or names."""
    if not (of_model and of_images) or list(of_model) == list(of_images):
        return ""
    if len(of_model) != len(of_images):
        return f"the model knows {len(of_model)} classes, these images {len(of_images)}"
    label = next(i for i, names in enumerate(zip(of_model, of_images, strict=True)) if names[0] != names[1])
    return f"class {label} is {of_model[label]!r} to the model, and {of_images[label]!r} in these images"


def is_run(name: str) -> bool:
    """Whether this is how a run's weights are asked for: their file, or the beginning of a run_id."""
    return name.endswith(SUFFIX) or _RUN.fullmatch(name) is not None


def find_weights(name: str, results: Path) -> Path:
    """The file that a RUN on the command line stands for: a path, or the beginning of a run_id whose weights are kept.

    Raises ValueError where there is none, or more than one.
    """
    if name.endswith(SUFFIX):
        if not Path(name).is_file():
            raise ValueError(f"run {name!r}: there is no such file")
        return Path(name)
    if not _RUN.fullmatch(name):
        raise ValueError(f"run {name!r} is neither a {SUFFIX} file nor a run_id, or 4 or more digits of its beginning")
    folder = results / "checkpoints"
    kept = [path for path in entries(folder) if path.suffix == SUFFIX and _RUN.fullmatch(path.stem)]
    matching = [path for path in kept if path.stem.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise ValueError(f"run {name!r} may be {' or '.join(path.stem for path in matching)}; give more digits")
    some = ", ".join(path.stem for path in kept[:3])
    raise ValueError(
        f"run {name!r} has no weights in {folder}; there {f'are those of {some}' if some else 'are none'}. `vitbench "
        "train` keeps them, `vitbench run` with --keep-weights"
    )
