"""The Auto classes know PAGE-4D after `import page4d_hf`, and programs that use none of them do not wait for them."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


# Runs each of its arguments in a copy of itself. What takes longest to import, and knows no Auto class, all share.
PROGRAMS = """
import os, sys
program, *others = sys.argv[1:]
if others:
    import torch, torchvision
for program in (program, *others):
    child = os.fork()
    if not child:
        exec(program, {})
        print(end="\\0", flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def run(*programs: str) -> list[str]:
    """What each prints in a fresh Python."""
    done = subprocess.run([sys.executable, "-c", PROGRAMS, *programs], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [printed.strip() for printed in done.stdout.split("\0")[:-1]]


@pytest.mark.parametrize("name", ["page4d", "/usr/bin/ns-train", "C:/ns-render.exe"])
def test_programs_without_auto_classes_import_neither_transformers_nor_torch(name):
    program = f"import sys; sys.argv = [{name!r}]; import page4d_hf; "

    assert run(program + "print(sorted({'transformers', 'torch'} & set(sys.modules)))") == ["[]"]


SEEN = """
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_DEPTH_ESTIMATION_MAPPING, MODEL_MAPPING
config = type(AutoConfig.for_model("page4d"))
print(config.__name__, MODEL_MAPPING[config].__name__, MODEL_FOR_DEPTH_ESTIMATION_MAPPING[config].__name__)
print("Page4DImageProcessor" in str(IMAGE_PROCESSOR_MAPPING[config]))
print([finder for finder in sys.meta_path if "page4d_hf" in str(finder)])
"""
# Whatever comes first, and whichever of the package's modules is imported directly.
ORDERS = [
    "import page4d_hf; from transformers import AutoConfig",
    "from transformers import AutoConfig; import page4d_hf",
    "import page4d_hf.modeling_page4d_layers; from transformers import AutoConfig",
    "import sys; sys.argv = ['page4d_demo.py']; import page4d_hf.errors; from transformers import AutoConfig",
]


NEVER_IMPORTED = """
import sys
sys.argv = ["page4d"]
from page4d_hf import Page4DConfig, Page4DForDepthEstimation, Page4DImageProcessor, Page4DModel
print(*(one._auto_class for one in (Page4DConfig, Page4DModel, Page4DForDepthEstimation, Page4DImageProcessor)))
"""


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """By a program for each order of imports, and by one that never imports the Auto classes."""
    return run(*(f"import sys\n{imports}\n{SEEN}" for imports in ORDERS), NEVER_IMPORTED)


def test_all_auto_classes_know_the_model_in_any_order_of_imports(printed):
    assert printed[:-1] == ["Page4DConfig Page4DModel Page4DForDepthEstimation\nTrue\n[]"] * len(ORDERS)


def test_what_is_saved_carries_its_code_even_if_the_auto_classes_were_never_imported(printed):
    assert printed[-1] == "AutoConfig AutoModel AutoModelForDepthEstimation AutoImageProcessor"
