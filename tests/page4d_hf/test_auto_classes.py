"""The Auto classes know PAGE-4D after `import page4d_hf`, and importing it costs next to nothing."""

import subprocess
import sys

import pytest


def run(program: str) -> str:
    """What a fresh Python prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_neither_transformers_nor_torch():
    program = "import sys, page4d_hf; print(sorted({'transformers', 'torch'} & set(sys.modules)))"

    assert run(program) == "[]"


# Whatever comes first, and whichever of the package's modules is imported directly.
ORDERS = [
    "import page4d_hf; from transformers import AutoConfig, AutoModel, AutoImageProcessor",
    "from transformers import AutoConfig, AutoModel, AutoImageProcessor; import page4d_hf",
    "import page4d_hf.modeling_page4d; from transformers import AutoConfig, AutoModel, AutoImageProcessor",
    "import page4d_hf.modeling_page4d_layers; from transformers import AutoConfig, AutoModel, AutoImageProcessor",
    "import page4d_hf.image_processing_page4d; from transformers import AutoImageProcessor, AutoModel, AutoConfig",
]


@pytest.mark.parametrize("imports", ORDERS)
def test_all_auto_classes_know_the_model_in_any_order_of_imports(imports):
    program = f"""
{imports}
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING
config = AutoConfig.for_model("page4d")
print(type(config).__name__, MODEL_MAPPING[type(config)].__name__)
print("Page4DImageProcessor" in str(IMAGE_PROCESSOR_MAPPING[type(config)]))
"""

    assert run(program) == "Page4DConfig Page4DModel\nTrue"


def test_what_is_saved_carries_its_code_even_if_the_auto_classes_were_never_imported():
    program = """
from page4d_hf import Page4DConfig, Page4DImageProcessor, Page4DModel
print(Page4DConfig._auto_class, Page4DModel._auto_class, Page4DImageProcessor._auto_class)
"""

    assert run(program) == "AutoConfig AutoModel AutoImageProcessor"


def test_the_import_of_a_module_can_be_copied_and_pickled():
    program = """
import copy, pickle
import page4d_hf.geometry
spec = page4d_hf.geometry.__spec__
for again in (copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
    print(again.loader.get_source(again.name) == spec.loader.get_source(spec.name))
"""

    assert run(program) == "True\nTrue"
