"""YAML and ``key=value`` overrides into a typed RunConfig, through OmegaConf; the resolved config back to YAML."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from reckoning_betty.checkpoint import replace_file
from reckoning_betty.config import RunConfig
from reckoning_betty.errors import UserError
from reckoning_betty.hypergradients.registry import find_method

_MISSING = object()


def load_config(problem: str, data_config: type, file: Path | None, overrides: Sequence[str]) -> RunConfig:
    """Defaults, then ``file``, then ``overrides``; what comes later wins.

    Args:
        problem: name of the problem.
        data_config: the problem's dataclass of data options.
        file: a YAML file with any part of the config.
        overrides: ``key=value`` with dots for nesting, e.g. ``inner.steps=6``; values are read as YAML.

    Raises:
        UserError: an unreadable file, an unknown key (the nearest one is named), a value of the wrong type or out of
            range, an override twice.
    """
    layers = [] if file is None else [(str(file), read_yaml(file))]
    layers += [(f"'{override}'", layer) for override, layer in _read_overrides(overrides)]
    return _load(problem, data_config, layers)


def load_values(problem: str, data_config: type, values: dict[str, Any], source: str) -> RunConfig:
    """Defaults, then ``values``, nested as in a YAML file; ``source`` says in errors where they come from.

    Raises:
        UserError: as ``load_config``.
    """
    return _load(problem, data_config, [(source, OmegaConf.create(values))])


def _load(problem: str, data_config: type, layers: list[tuple[str, DictConfig]]) -> RunConfig:
    schema = OmegaConf.structured(RunConfig(problem=problem, data=data_config()))
    for name in [str(layer.hypergradient) for _, layer in layers if "hypergradient" in layer][-1:]:
        with read_write(schema):
            schema.hypergradient_options = OmegaConf.structured(find_method(name)())
    config = _merge(schema, layers)
    if config.problem != problem:
        raise UserError(
            f"The config is for problem '{config.problem}', not '{problem}': use --problem {config.problem}."
        )
    return config


def load_saved_config(problem: str, data_config: type, file: Path) -> RunConfig:
    """What ``save_config`` wrote.

    Raises:
        UserError: as ``load_config``, and for a file that lacks a key: a default in its place would be another run.
    """
    config = load_config(problem, data_config, file, [])
    saved = read_yaml(file)
    missing = [key for key in config_keys(config) if OmegaConf.select(saved, key, default=_MISSING) is _MISSING]
    if missing:
        raise UserError(
            f"Config file {file} is incomplete, {missing[0]} is missing: put back the one that the run was started "
            "with, or start a new run in another --output."
        )
    return config


def load_data_config(data_config: type, known: dict[str, Any], overrides: Sequence[str]) -> Any:
    """A problem's data options alone: those that a checkpoint was trained with, then ``overrides``.

    Raises:
        UserError: as ``load_config``.
    """
    schema = OmegaConf.structured(data_config())
    layers = [("the checkpoint's data options", OmegaConf.create(known))]
    layers += [(f"'{override}'", layer) for override, layer in _read_overrides(overrides)]
    return _merge(schema, layers)


def save_config(config: RunConfig, path: Path) -> None:
    """Write the resolved config; ``load_config`` reads it back to an equal one."""
    text = OmegaConf.to_yaml(OmegaConf.structured(config))
    replace_file(path, lambda new: new.write_text(text, encoding="utf-8"))


def config_keys(config: Any) -> Iterator[str]:
    """Every key that can be set, with dots."""
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            yield from (f"{item.name}.{key}" for key in config_keys(value))
        else:
            yield item.name


def _merge(schema: DictConfig, layers: Iterable[tuple[str, DictConfig]]) -> Any:
    """The dataclass that ``schema`` describes, with ``layers`` (where from, what) laid over it in turn."""
    for source, layer in layers:
        try:
            _refuse_unknown_keys(layer, schema, source)
            schema = OmegaConf.merge(schema, layer)
        except OmegaConfBaseException as error:
            raise UserError(f"{source}: {_one_sentence(error)}") from None
    try:
        return OmegaConf.to_object(schema)
    except OmegaConfBaseException as error:
        raise UserError(_one_sentence(error)) from None


def read_yaml(file: Path) -> DictConfig:
    """
    Raises:
        UserError: the file is not there, is not YAML, or holds no keys.
    """
    if file.is_dir():
        raise UserError(f"Config file {file} is a folder; --config takes a YAML file.")
    if not file.is_file():
        raise UserError(f"Config file {file} does not exist; --config takes a YAML file.")
    try:
        content = OmegaConf.load(file)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        place = getattr(error, "problem_mark", None)
        where = f", line {place.line + 1}" if place else ""
        raise UserError(f"Config file {file}{where} is not YAML: {_one_sentence(error)}") from None
    if not isinstance(content, DictConfig):
        raise UserError(f"Config file {file} must hold 'key: value' lines at the top, not a {type(content).__name__}.")
    return content


def _read_overrides(overrides: Sequence[str]) -> Iterator[tuple[str, DictConfig]]:
    seen: dict[str, str] = {}
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key.strip():
            raise UserError(f"'{override}' is not an override: type key=value, for example inner.steps=6.")
        if key in seen:
            raise UserError(f"'{key}' is given twice ('{seen[key]}' and '{override}'): keep one.")
        seen[key] = override
        try:
            yield override, OmegaConf.from_dotlist([override])
        except (yaml.YAMLError, OmegaConfBaseException) as error:
            raise UserError(f"'{override}': the value is not YAML: {_one_sentence(error)}") from None


def _refuse_unknown_keys(layer: DictConfig, schema: DictConfig, source: str, prefix: str = "") -> None:
    for key in layer:
        if key not in schema:
            near = difflib.get_close_matches(str(key), [str(known) for known in schema], n=1, cutoff=0.5)
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known are {', '.join(map(str, schema))}."
            raise UserError(f"{source}: unknown key '{prefix}{key}'; {hint}")
        below = OmegaConf.is_dict(schema[key])
        if below and not OmegaConf.is_dict(layer[key]):
            keys = ", ".join(map(str, schema[key]))
            raise UserError(f"{source}: '{prefix}{key}' is a section with the keys {keys}; set one of those.")
        if below:
            _refuse_unknown_keys(layer[key], schema[key], source, f"{prefix}{key}.")


def _one_sentence(error: Exception) -> str:
    """The first line of a library's message, with the key that it concerns."""
    sentence = (getattr(error, "problem", None) or str(error).splitlines()[0]).rstrip(".") + "."
    if "$VALUE" in sentence:  # OmegaConf fills these in for scalars, not for the items of a list
        sentence = "an item of the list has the wrong type."
    key = getattr(error, "full_key", None)
    return f"{key}: {sentence}" if key else sentence
