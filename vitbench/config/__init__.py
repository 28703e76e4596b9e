"""What is run: frozen, validated configurations, and the identity (`run_id`) that follows from them.

Imports no torch. Everything that can change a number is a field here; where a run happens is its environment.
"""

from vitbench.config.base import (
    MOST,
    MOST_SEEDS,
    Config,
    Size,
    as_pair,
    canonical_json,
    divisors,
    size_text,
    square_as_int,
)
from vitbench.config.data import CHANNELS_WITH_COLOUR, DataConfig, ErasingMode, Interpolation, PaddingMode
from vitbench.config.distortions import DISTORTIONS, Distortion, distorted_metric, distortion_names, strengths_on
from vitbench.config.model import (
    ModelConfig,
    ModuleConfig,
    TimmConfig,
    WholeModelConfig,
    block_width,
    shape_of,
    user_names,
)
from vitbench.config.recipe import OPTIMIZER_OPTIONS, Compile, Precision, TrainConfig
from vitbench.config.run import RunConfig, run_id
from vitbench.config.vit import (
    FREE,
    OF_BLOCKS,
    OF_THE_HEAD,
    POSITION_SITES,
    Activation,
    FinalNorm,
    Head,
    Pool,
    Position,
    Stem,
    ViTConfig,
)
from vitbench.user_code import ROLES

__all__ = [
    "CHANNELS_WITH_COLOUR",
    "DISTORTIONS",
    "FREE",
    "MOST",
    "MOST_SEEDS",
    "OF_BLOCKS",
    "OF_THE_HEAD",
    "OPTIMIZER_OPTIONS",
    "POSITION_SITES",
    "ROLES",
    "Activation",
    "Compile",
    "Config",
    "DataConfig",
    "Distortion",
    "ErasingMode",
    "FinalNorm",
    "Head",
    "Interpolation",
    "ModelConfig",
    "ModuleConfig",
    "PaddingMode",
    "Pool",
    "Position",
    "Precision",
    "RunConfig",
    "Size",
    "Stem",
    "TimmConfig",
    "TrainConfig",
    "ViTConfig",
    "WholeModelConfig",
    "as_pair",
    "block_width",
    "canonical_json",
    "distorted_metric",
    "distortion_names",
    "divisors",
    "run_id",
    "shape_of",
    "size_text",
    "square_as_int",
    "strengths_on",
    "user_names",
]
