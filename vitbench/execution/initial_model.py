"""What is a run's model before its first step: drawn from the seed, or with whose weights?"""

from __future__ import annotations

from vitbench.config import RunConfig, ViTConfig
from vitbench.execution.job import Job
from vitbench.models import TimmModel, UserModel, ViT, build_model, convert
from vitbench.models.inherit import inherit, inherit_whole
from vitbench.models.weights import load_trained


def initial_model(job: Job) -> ViT | TimmModel | UserModel:
    """The model before its first step: from the seed, or from other weights.

    Raises ValueError where these are not the weights that the run's configuration names.
    """
    config, model, pretraining = job.run.config, job.run.config.model, job.run.config.pretraining
    if config.init is None and pretraining is None:
        return build_model(model, seed=config.seed)
    assert job.init is not None, config.run_id
    if not isinstance(model, ViTConfig):
        return whole_model_from(job.init, config)
    if pretraining is not None:
        trained = load_trained(job.init)
        if trained.config != pretraining:
            raise ValueError(
                f"pretraining {pretraining.run_id} was planned, but {job.init} is of {trained.config.run_id}; delete it, "
                "and the next call trains it again"
            )
        assert isinstance(trained.model, ViT), pretraining.model
        source = trained.model
    else:
        hints = convert.Hints(image_size=model.image_size, activation=model.activation, position=model.position)
        source = convert.load_named(job.init, in_channels=model.in_channels, hints=hints)
        _check_planned(config, job.init, convert.weights_identity(job.init, source))
    return inherit(source, model, seed=config.seed, keep_head=config.keep_head)


def untrained_model(config: RunConfig, seed: int) -> ViT | TimmModel | UserModel:
    """The run's initial model; one that goes on from a pretraining has that one's initial weights, taken over as trained ones
    would be.
    """
    if config.pretraining is None:
        return build_model(config.model, seed=seed)
    source, model = untrained_model(config.pretraining, seed), config.model
    assert isinstance(source, ViT) and isinstance(model, ViTConfig), config  # pretraining is for ViTs
    return inherit(source, model, seed=seed, keep_head=config.keep_head)


def whole_model_from(path: str, config: RunConfig) -> TimmModel | UserModel:
    """A model of timm, or a user's whole model, that starts from the weights of a run of the same model, in a file.

    Raises ValueError where these are not the weights that `config.init` names, or not of the same model.
    """
    trained = load_trained(path)
    _check_planned(config, path, trained.identity)
    model = config.model
    assert not isinstance(model, ViTConfig), model
    if isinstance(trained.model, ViT) or type(trained.model.config) is not type(model):
        raise ValueError(f"init {config.init!r} is another kind of model than {model.title}; leave it out")
    return inherit_whole(trained.model, model, seed=config.seed, keep_head=config.keep_head)


def _check_planned(config: RunConfig, name: str, identity: str) -> None:
    if identity != config.init:
        raise ValueError(f"init {config.init} was planned, but {name} is {identity}")
