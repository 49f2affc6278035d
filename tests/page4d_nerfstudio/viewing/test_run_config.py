"""config.yml: what a training writes is read back, and what would run a program is refused by name."""

import random
from pathlib import Path

import pytest
import yaml

from page4d_hf.errors import Page4DError
from page4d_nerfstudio import commands, configs
from page4d_nerfstudio.configs import METHODS, page4d_4dgs
from page4d_nerfstudio.viewing.camera_paths import read_views
from page4d_nerfstudio.viewing.export import read_run
from page4d_nerfstudio.viewing.run_config import ExportError, read_config


@pytest.fixture
def config(tmp_path) -> Path:
    (tmp_path / "config.yml").write_text(yaml.dump(page4d_4dgs.config))
    return tmp_path / "config.yml"


@pytest.mark.parametrize("method", METHODS)
def test_a_configuration_is_read_back_as_nerfstudio_reads_it(config, method):
    written = getattr(configs, method).config
    config.write_text(yaml.dump(written))

    assert read_config(config) == written == yaml.load(config.read_text(), Loader=yaml.Loader)


def test_options_that_a_file_of_another_version_lacks_or_has_are_no_obstacle(config):
    lines = config.read_text().splitlines()
    kept = [line for line in lines if "views_per_step" not in line and "multires" not in line]
    config.write_text(
        "\n".join([*kept, "an_option_of_old: 3", "setup: 4"]).replace("      - 1\n      - 2\n      - 4\n", "")
    )

    read = read_config(config)

    assert read.pipeline.views_per_step == 2
    assert callable(read.setup)


# What would run a program, import one, or hand one over to be called.
PROGRAMS = {
    "a call": ("!!python/object/apply:os.system ['touch RAN']", "os.system"),
    "a call with names": ("!!python/object/apply:subprocess.run {args: [[touch, RAN]]}", ""),
    "a new object": ("!!python/object/new:subprocess.Popen [[touch, RAN]]", "object/new:subprocess.Popen"),
    "an object": ("!!python/object:subprocess.Popen {}", "subprocess.Popen"),
    "a function": ("!!python/name:os.system ''", "os.system"),
    "a module": ("!!python/module:antigravity ''", "module:antigravity"),
    "a function of nerfstudio": (
        "!!python/name:nerfstudio.utils.scripts.run_command ''",
        "nerfstudio.utils.scripts.run_command",
    ),
    "what a module of nerfstudio imports": (
        "!!python/object/apply:nerfstudio.utils.scripts.subprocess.run [[touch, RAN]]",
        "nerfstudio.utils.scripts.subprocess.run",
    ),
    "a class of nerfstudio as a call": (
        "!!python/object/apply:nerfstudio.utils.writer.LocalWriter [1]",
        "nerfstudio.utils.writer.LocalWriter",
    ),
    "a class of torch": ("!!python/name:torch.utils.cpp_extension.BuildExtension ''", "torch.utils.cpp_extension"),
    "something of pathlib that is no path": (
        "!!python/object/apply:pathlib.os.system ['touch RAN']",
        "pathlib.os.system",
    ),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_file_that_names_a_program_is_refused_by_name_and_nothing_runs(config, tmp_path, monkeypatch, program):
    text, name = PROGRAMS[program]
    config.write_text(config.read_text().replace("experiment_name: null", f"experiment_name: {text}"))
    assert text in config.read_text()
    monkeypatch.chdir(tmp_path)

    for read in (read_config, read_run, lambda path: read_views(path, "train")):
        with pytest.raises(ExportError, match=f"(?s)names {name}.* which could run any program|cannot be read"):
            read(config)

    assert [path.name for path in tmp_path.iterdir()] == ["config.yml"]


FILES = {
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
    "a name that is too long": (lambda path: path.with_name("a" * 300), "Cannot read .*name too long"),
    "a null byte": (lambda path: path.with_name("a\0b"), "Cannot read|There is no"),
    "a file as folder": (lambda path: path / "config.yml", "Cannot read|There is no"),
    "no UTF-8": (lambda path: path.write_bytes(b"\xff\xfe\x00\x01\xff"), "cannot be read as the config.yml"),
    "lists in lists": (lambda path: path.write_text("[" * 5_000), "cannot be read as the config.yml"),
    "too large": (lambda path: path.write_text("a: " + "b" * 2**21), "more than 1024 KiB"),
    "a configuration that is none": (
        lambda path: path.write_text("!!python/object:nerfstudio.configs.base_config.ViewerConfig {}"),
        "is not the config.yml of a nerfstudio training",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_no_configuration_ends_in_a_sentence(config, file):
    change, message = FILES[file]
    changed = change(config)
    with pytest.raises(ExportError, match=message):
        read_config(changed if isinstance(changed, Path) else config)


@pytest.mark.slow
def test_whatever_is_typed_into_a_file_ends_in_a_sentence(config, tmp_path, monkeypatch):
    """Values of other types, lines lost, doubled or moved, bytes changed: seeded, and the same at each run."""
    monkeypatch.chdir(tmp_path)
    lines = config.read_text().splitlines()
    rng = random.Random(0)
    values = ["null", "-1", "1.0e+300", ".nan", "[]", "{a: 1}", "'a\\0b'", '"\\0"', "x" * 300, "!!python/tuple [1]"]
    for _ in range(25):
        spoilt = list(lines)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(spoilt))
            kind = rng.randrange(4)
            if kind == 0:
                spoilt[at] = f"{spoilt[at].split(':')[0]}: {rng.choice(values)}"
            elif kind == 1:
                del spoilt[at]
            elif kind == 2:
                spoilt.insert(rng.randrange(len(spoilt)), spoilt[at])
            else:
                spoilt[at] = "".join(chr(rng.randrange(1, 256)) if rng.random() < 0.05 else c for c in spoilt[at])
        config.write_text("\n".join(spoilt))
        # There are no data here and no checkpoint: all end in a sentence, the whole ones too.
        for read in (read_run, lambda path: read_views(path, "val")):
            with pytest.raises((Page4DError, SystemExit)):
                read(config)


def test_outputs_that_cannot_be_written_are_refused_before_anything_is_read(tmp_path):
    (tmp_path / "file").write_text("")
    told = r"^(The output .* cannot be a name|Cannot write )"
    for output in (Path("/proc/x"), tmp_path / "file/below", tmp_path / ("a" * 300), Path("a\0b")):
        for suffix in ("", ".ply"):
            with pytest.raises(Page4DError, match=told):
                commands.export_splats(Path("nowhere.yml"), Path(f"{output}{suffix}"), time=0.5)
        with pytest.raises(Page4DError, match=told):
            commands.camera_path(Path("nowhere.yml"), output)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
