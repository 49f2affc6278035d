"""`ns-train` in this process.

nerfstudio imports all of its methods with it, for ten seconds: tests that do not train start without.
"""

import tyro


def training_config(*words):
    """The configuration that `ns-train` makes of words."""
    from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion

    return tyro.cli(AnnotatedBaseConfigUnion, args=[str(word) for word in words])


def train(*words):
    """Run `ns-train` with words; gives its configuration."""
    from nerfstudio.scripts.train import main

    config = training_config(*words)
    main(config)
    return config
