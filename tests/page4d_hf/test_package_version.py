"""The version that scenes and model cards name."""

from importlib.metadata import PackageNotFoundError, version

import page4d_hf
from page4d_hf import cli
from page4d_hf.model_card import model_card
from page4d_hf.package_version import page4d_version


def test_a_source_tree_that_is_not_installed_has_an_unknown_version(config, monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("page4d_hf.package_version.version", absent)
    assert page4d_version() == "unknown"
    assert "by page4d unknown" in model_card(config, num_parameters=1, source="a file")


def test_the_package_says_its_version_as_the_installed_distribution_has_it():
    assert page4d_hf.__version__ == version("page4d")


def test_the_command_says_the_version(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"page4d {version('page4d')}\n"
