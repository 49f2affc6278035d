"""A training's `config.yml`, read without running what it names.

nerfstudio writes its configuration as a YAML of Python objects, and its own commands build whatever such a file says:
`!!python/object/apply:os.system` runs a command. A training may be somebody else's, so this loader builds what
configurations are made of, and refuses the rest by name: dataclasses, enumerations and classes of nerfstudio and of
this package, PyTorch's optimizers, paths, tuples.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from nerfstudio.engine.trainer import TrainerConfig

from page4d_hf.errors import Page4DError
from page4d_hf.utils.programs import one_line

from ..checkpoints import UNREADABLE
from ..gaussians.model import Page4DGaussiansModelConfig

MOST_BYTES = 2**20  # of a config.yml, which has about 2**13
KNOWN = ("nerfstudio", "page4d_nerfstudio", "torch.optim")
PATHS = ("pathlib", "pathlib._local")  # modules of Path's classes in Python up to 3.12, and in 3.13


class ExportError(Page4DError):
    """A training that cannot be read back."""


def read_config(path: Path) -> TrainerConfig:
    """The configuration of a page4d-4dgs training, from its config.yml; no code of the file's choice is run."""
    try:
        if path.is_dir():
            raise ExportError(f"{path} is a folder; name the config.yml of a training in it.")
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise ExportError(f"There is no {path}; --load-config names the config.yml of a training.") from error
    except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise ExportError(f"Cannot read {str(path)!r:.200}: {reason}; name the config.yml of a training.") from error
    try:
        if len(text) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES >> 10} KiB")
        config = yaml.load(text, Loader=_Loader)  # a safe one
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ExportError(
            f"{path} cannot be read as the config.yml of a nerfstudio training: {one_line(error)}"
        ) from error
    except _NotBuilt as error:
        raise ExportError(
            f"{path} names {error}, which no page4d-4dgs training needs and which could run any program; only classes "
            f"of {', '.join(KNOWN)} and paths are built from a config.yml."
        ) from error
    if not isinstance(config, TrainerConfig):
        raise ExportError(f"{path} is not the config.yml of a nerfstudio training; it lies in the training's folder.")
    if not isinstance(getattr(config.pipeline, "model", None), Page4DGaussiansModelConfig):
        raise ExportError(
            f"{path} is of a training of {config.method_name}, and this command takes those of page4d-4dgs; "
            "nerfstudio's own take all."
        )
    return config


@contextmanager
def building(path: Path) -> Iterator[None]:
    """Say that a config.yml does not fit together where what is built from it says so in words of Python's.

    A value of another type, which somebody has typed into the file, is met wherever it is first used.

    Raises:
        ExportError: in place of such an error.
    """
    try:
        yield
    except Page4DError:
        raise
    except (*UNREADABLE, AssertionError, ArithmeticError) as error:
        raise ExportError(
            f"What {path} says cannot be built ({type(error).__name__}: {' '.join(str(error).split()):.200}); take the "
            "file as the training wrote it."
        ) from error


class _NotBuilt(Exception):
    """The name of something that is not built."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """PyYAML's safe loader, and the Python objects of a configuration."""


def _known_class(name: str) -> type:
    """The class of that name, if it is defined in one of the known packages."""
    module, _, attribute = name.rpartition(".")
    if not any(module == known or module.startswith(f"{known}.") for known in KNOWN):
        raise _NotBuilt(name)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise _NotBuilt(name) from error
    # What a module has merely imported is reachable through it too, and is not of the package.
    if not isinstance(found, type) or found.__module__ != module:
        raise _NotBuilt(name)
    return found


def _dataclass(loader: _Loader, name: str, node: yaml.MappingNode) -> Iterator[Any]:
    known = _known_class(name)
    if not is_dataclass(known):
        raise _NotBuilt(name)
    instance: Any = known.__new__(known)
    yield instance  # as PyYAML wants it, before its parts, which may refer to it
    state = loader.construct_mapping(node)
    # Options that there no longer are, and names that would hide a method, are left out; new ones have their default.
    for each in fields(known):
        if each.name in state:
            vars(instance)[each.name] = state[each.name]
        elif each.default_factory is not MISSING:
            vars(instance)[each.name] = each.default_factory()


def _call(loader: _Loader, name: str, node: yaml.SequenceNode) -> Any:
    """A path or a member of an enumeration, which are written as calls."""
    arguments = loader.construct_sequence(node, deep=True)
    module, _, attribute = name.rpartition(".")
    if module in PATHS and attribute.endswith("Path") and all(isinstance(part, str) for part in arguments):
        return Path(*arguments)
    known = _known_class(name)
    if not issubclass(known, Enum) or len(arguments) != 1:
        raise _NotBuilt(name)
    return known(*arguments)


def _anything_else(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    raise _NotBuilt(suffix)


_PYTHON = "tag:yaml.org,2002:python/"
_Loader.add_multi_constructor(f"{_PYTHON}name:", lambda loader, name, node: _known_class(name))
_Loader.add_multi_constructor(f"{_PYTHON}object:", _dataclass)
_Loader.add_multi_constructor(f"{_PYTHON}object/apply:", _call)
_Loader.add_multi_constructor(_PYTHON, _anything_else)  # the last, as the first that fits is taken
_Loader.add_constructor(f"{_PYTHON}tuple", lambda loader, node: tuple(loader.construct_sequence(node)))
