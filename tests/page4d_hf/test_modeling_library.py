"""What transformers, accelerate and torch expect of a model: the kind of checks that the library makes of its own."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_networks
import torch
from PIL import Image
from small_networks import PREDICTIONS, assert_alike, images
from torch import nn
from torch._dynamo.testing import CompileCounter
from transformers import AutoModel
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from page4d_hf import Page4DImageProcessor, Page4DModel

pytestmark = pytest.mark.slow

HALVES = [torch.bfloat16, torch.float16]
HEADS = ["camera_head", "depth_head", "point_head", "track_head", "aggregator.mask_head"]


def predict(model: nn.Module, **options: object) -> dict[str, torch.Tensor]:
    return small_networks.predict(model, images(1, 2, 3, 28, 42), **options)


@pytest.fixture(scope="module")
def model(tiny_model) -> Page4DModel:
    return tiny_model()


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory) -> Path:
    """The tiny network on disk, track head included."""
    path = tmp_path_factory.mktemp("page4d")
    tiny_model(enable_track=True).save_pretrained(path)
    Page4DImageProcessor(size=28).save_pretrained(path)
    return path


# On disk


def test_a_saved_model_predicts_what_it_predicted(model, tmp_path):
    model.save_pretrained(tmp_path)

    assert_alike(predict(Page4DModel.from_pretrained(tmp_path)), predict(model), rtol=0, atol=0)


def test_a_loaded_model_has_no_weight_that_waits_for_a_gradient_in_vain(folder):
    model, _ = Page4DModel.from_pretrained(folder, output_loading_info=True)

    for loaded in (model, AutoModel.from_pretrained(folder)):
        frozen = {name for name, weight in loaded.named_parameters() if not weight.requires_grad}
        assert frozen == {"encoder.embeddings.mask_token"}


def test_a_program_that_never_heard_of_the_package_can_load_a_saved_model_and_make_a_pipeline_of_it(folder, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.png")
    program = f"""
import sys
import torch
from transformers import AutoModel, pipeline
model = AutoModel.from_pretrained({str(folder)!r}, trust_remote_code=True)
torch.manual_seed(0)
with torch.no_grad():
    output = model(torch.full((1, 2, 3, 28, 42), 0.5))
assert output.cameras()[0].shape == (1, 2, 3, 4)
model.save_pretrained("again")
torch.save(output.depth, "depth.pt")
estimator = pipeline("depth-estimation", model={str(folder)!r}, trust_remote_code=True, device="cpu")
assert estimator("photo.png")["predicted_depth"].shape == (30, 40)
assert not any(name.split('.')[0] == 'page4d_hf' for name in sys.modules)
"""
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=False, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )

    assert done.returncode == 0, done.stderr
    assert "not supported" not in done.stderr
    with torch.no_grad():
        expected = Page4DModel.from_pretrained(folder)(torch.full((1, 2, 3, 28, 42), 0.5)).depth
    assert torch.equal(torch.load(tmp_path / "depth.pt"), expected)
    assert (tmp_path / "again" / "modeling_page4d_aggregator.py").is_file()


def test_weights_that_a_checkpoint_lacks_are_initialised(tiny_model, tiny_config, tmp_path):
    """As when a head is added to a published network."""
    tiny_model(enable_point=False, mask_form=None).save_pretrained(tmp_path)
    config = tiny_config()

    model, info = Page4DModel.from_pretrained(tmp_path, config=config, output_loading_info=True)

    assert {name.split(".")[0] for name in info["missing_keys"]} == {"point_head", "aggregator"}
    assert all(weight.isfinite().all() for weight in model.state_dict().values())
    assert model.point_head.projections[0].weight.std() > 0.01
    assert model.aggregator.mask_schedule.step.item() == 0
    assert predict(model)["world_points"].isfinite().all()


def test_layer_scales_start_at_their_configured_value(tiny_model):
    model = tiny_model(layerscale_value=0.01, encoder_layerscale_value=0.5)

    for layers, value in (
        (model.aggregator.frame_layers, 0.01),
        (model.camera_head.layers, 0.01),
        (model.encoder.layers, 0.5),
    ):
        assert torch.equal(layers[0].layer_scale1, torch.full_like(layers[0].layer_scale1, value))
        assert torch.equal(layers[0].layer_scale2, torch.full_like(layers[0].layer_scale2, value))


# Half precisions


@pytest.mark.parametrize("dtype", HALVES)
def test_casting_a_model_leaves_its_heads_as_they_are(tiny_model, dtype):
    model = tiny_model(enable_track=True)
    cast = copy.deepcopy(model).to(dtype)

    assert cast.dtype == dtype
    for name, weight in cast.named_parameters():
        is_head = any(name.startswith(head) for head in HEADS)
        assert weight.dtype == (torch.float32 if is_head else dtype), name
        if is_head:
            assert torch.equal(weight, model.get_parameter(name)), name


@pytest.mark.parametrize("dtype", [*HALVES, torch.float64])
def test_a_model_loaded_in_another_precision_is_the_model_cast_to_it(folder, dtype):
    loaded = Page4DModel.from_pretrained(folder, dtype=dtype).state_dict()
    cast = Page4DModel.from_pretrained(folder, dtype=torch.float32).to(dtype).state_dict()

    assert {name: weight.dtype for name, weight in loaded.items()} == {
        name: weight.dtype for name, weight in cast.items()
    }
    assert all(torch.equal(loaded[name], cast[name]) for name in cast)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_model_built_in_half_precision_has_heads_in_full(tiny_config, dtype):
    model = AutoModel.from_config(tiny_config(enable_track=True), dtype=dtype)

    assert model.dtype == dtype
    for head in HEADS:
        assert {weight.dtype for weight in model.get_submodule(head).parameters()} == {torch.float32}


@pytest.mark.parametrize("mask_form", ["release", "paper"])
def test_a_model_cast_to_double_predicts_the_same_in_double(tiny_model, mask_form):
    # A second iteration of the track head would see displacements in waves so short that they amplify the rounding.
    model = tiny_model(mask_form=mask_form, enable_track=True, track_num_iterations=1)
    points = 28 * images(1, 3, 2, seed=1)
    expected = predict(model, query_points=points)
    double = model.double()
    found = predict(double, query_points=points)

    assert {weight.dtype for weight in double.parameters()} == {torch.float64}
    for name in (*PREDICTIONS, "tracks", "track_visibility"):
        assert found[name].dtype == torch.float64, name
        torch.testing.assert_close(found[name].float(), expected[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_predicts_nearly_the_same_and_gives_full_precision(tiny_model, dtype):
    """Weights as at the start of training: the large ones of the other tests would amplify the rounding."""
    model = tiny_model(initializer_range=0.02, layerscale_value=0.01)
    full, half = predict(model), predict(copy.deepcopy(model).to(dtype))

    assert {half[name].dtype for name in PREDICTIONS} == {torch.float32}
    assert_alike(half, full, rtol=2e-2, atol=2e-3)
    assert not torch.equal(half["depth"], full["depth"])


@pytest.mark.parametrize("mask_form", ["release", "paper"])
def test_quantization_leaves_the_heads_as_they_are(tiny_model, mask_form):
    model = tiny_model(mask_form=mask_form, enable_track=True)
    kept = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    linear = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    quantized = {name.split("layers")[0] for name in linear if should_convert_module(name, kept)}

    assert quantized == {"encoder.", "aggregator.frame_", "aggregator.global_"}


def test_autocast_leaves_the_heads_in_full_precision(model):
    tokens = torch.randn(1, 2, 32, generator=torch.Generator().manual_seed(0))
    features = [(torch.randn(1, 2, 9, 16), torch.randn(1, 2, 9, 16)) for _ in range(4)]
    with torch.no_grad():
        expected = (model.camera_head(tokens)[-1], model.depth_head(features, (28, 28)))
        with torch.autocast("cpu", torch.bfloat16):
            found = (model.camera_head(tokens)[-1], model.depth_head(features, (28, 28)))

    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


# Attention implementations, hidden states and attentions


@pytest.mark.parametrize("mask_form", ["release", "paper", None])
def test_eager_attention_equals_sdpa(tiny_model, mask_form):
    eager = predict(tiny_model(mask_form=mask_form, attn_implementation="eager"))
    sdpa = predict(tiny_model(mask_form=mask_form, attn_implementation="sdpa"))

    assert_alike(eager, sdpa, PREDICTIONS if mask_form else PREDICTIONS[:-1], rtol=1e-4, atol=1e-5)


def test_attentions_are_distributions_over_the_keys_of_every_block(tiny_model):
    output = predict(tiny_model(attn_implementation="eager"), output_attentions=True)
    tokens = 5 + 2 * 3

    assert len(output.attentions) == 2 * 5
    for index, weights in enumerate(output.attentions):
        shape = (2, 2, tokens, tokens) if index % 2 == 0 else (1, 2, 2 * tokens, 2 * tokens)
        assert weights.shape == shape
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(shape[:-1]))


def test_attentions_need_eager_attention(model):
    with pytest.raises(ValueError, match='needs attn_implementation="eager"'):
        predict(model, output_attentions=True)


def test_hidden_states_are_the_two_blocks_of_every_layer_and_change_no_prediction(model):
    output = predict(model, output_hidden_states=True)

    assert len(output.hidden_states) == 5
    assert all(states.shape == (1, 2, 11, 32) for states in output.hidden_states)
    without = predict(model)
    assert without.hidden_states is None
    assert_alike(output, without, rtol=0, atol=0)


def test_gradients_reach_every_hidden_state(model):
    output = model(images(1, 2, 3, 28, 42), output_hidden_states=True)
    for states in output.hidden_states:
        states.retain_grad()
    output.pose_enc.sum().backward()

    assert all(states.grad.any() for states in output.hidden_states)


def test_outputs_come_as_a_tuple_on_request(model):
    as_tuple, output = predict(model, return_dict=False), predict(model)

    assert isinstance(as_tuple, tuple)
    assert all(torch.equal(found, expected) for found, expected in zip(as_tuple, output.to_tuple(), strict=True))


# Training


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("mask_form", ["release", "paper"])
def test_gradient_checkpointing_changes_neither_output_nor_gradients(tiny_model, mask_form, use_reentrant):
    results = []
    for checkpointing in (False, True):
        model = tiny_model(mask_form=mask_form).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
            model.enable_input_require_grads()
        output = model(images(1, 2, 3, 28, 28))
        sum(output[name].square().mean() for name in PREDICTIONS).backward()
        results.append((output, {name: weight.grad for name, weight in model.named_parameters()}))
    (plain, plain_gradients), (checkpointed, gradients) = results

    assert_alike(checkpointed, plain, rtol=0, atol=0)
    for name, expected in plain_gradients.items():
        if expected is None:
            assert gradients[name] is None
        else:
            torch.testing.assert_close(gradients[name], expected, rtol=1e-5, atol=1e-7, msg=name)


def test_checkpointed_layers_keep_only_their_input(tiny_model):
    """What checkpointing is for: fewer values are saved for the backward pass."""
    saved = []
    for checkpointing in (False, True):
        model, count = tiny_model().train(), []
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        with torch.autograd.graph.saved_tensors_hooks(lambda t, c=count: c.append(t.numel()) or t, lambda t: t):
            model.aggregator(torch.randn(1, 2, 6, 16, requires_grad=True), 2, 3, [4])
        saved.append(sum(count))

    assert saved[1] < saved[0] / 4


# Devices and compilation


def test_a_forward_pass_never_asks_the_device_for_a_value(tiny_config):
    """On the meta device there are no values: whoever reads one, or branches on one, fails."""
    with torch.device("meta"):
        model = Page4DModel(tiny_config(enable_track=True))
        pixel_values, points = torch.empty(2, 3, 3, 28, 42), torch.empty(2, 5, 2)
        for mode in (model.eval(), model.train()):
            output = mode(pixel_values, points, mask_strength=None)
            assert output.depth.shape == (2, 3, 28, 42, 1)
            assert output.tracks.shape == (2, 3, 5, 2)
        assert model(pixel_values, mask_strength=torch.empty(())).depth.is_meta
        labels = {"extrinsics": torch.empty(2, 3, 3, 4), "intrinsics": torch.empty(2, 3, 3, 3)}
        assert model(pixel_values, labels={**labels, "depth": torch.empty(2, 3, 28, 42)}).loss.is_meta


# One layer of each kind: tracing takes its time.
SHALLOW = {
    "encoder_num_hidden_layers": 1,
    "num_hidden_layers": 2,
    "mask_layer": 0,
    "masked_layers": [1],
    "head_layers": [0, 0, 1, 1],
    "camera_num_hidden_layers": 1,
    "camera_num_iterations": 2,
}


def test_a_step_of_the_schedule_recompiles_nothing(tiny_model):
    model = tiny_model(**SHALLOW).train()
    counter = CompileCounter()
    compiled = torch.compile(model.aggregator, fullgraph=True, backend=counter)
    for step in (0, 6500, 7000, 12000):
        model.set_training_step(step)
        compiled(torch.randn(1, 2, 6, 16), 2, 3, (1,))

    assert counter.frame_count == 1


def any_images(num_frames: int, height: int, width: int) -> torch.Tensor:
    return images(1, num_frames, 3, height, width)


def test_one_graph_serves_every_number_of_frames_and_every_size(tiny_model):
    """No size is the number of channels, nor are two sizes the same in the first call: torch takes equals for one.

    The last size is the network's own, whose position embeddings are not resampled without a graph.
    """
    torch._dynamo.reset()
    model, counter = tiny_model(**SHALLOW, enable_point=False, image_size=42), CompileCounter()
    compiled = torch.compile(model, dynamic=True, fullgraph=True, backend=counter)
    for shape in ((2, 56, 70), (9, 56, 70), (5, 42, 84), (3, 42, 42)):
        with torch.no_grad():
            found, expected = compiled(any_images(*shape)), model(any_images(*shape))
        assert_alike(found, expected, ("pose_enc", "depth", "dynamics_mask"), rtol=1e-5, atol=1e-5)

    assert counter.frame_count == 1


def test_an_exported_model_takes_every_number_of_frames_and_points_and_every_size(tiny_model):
    model = tiny_model(
        **SHALLOW,
        enable_point=False,
        enable_track=True,
        initializer_range=0.02,
        track_num_hidden_layers=1,
        track_num_iterations=1,
    )
    dims = [torch.export.Dim(name, min=low) for name, low in (("S", 2), ("N", 2), ("h", 3), ("w", 3))]
    sizes = {"pixel_values": {1: dims[0], 3: 14 * dims[2], 4: 14 * dims[3]}, "query_points": {1: dims[1]}}
    with torch.no_grad():
        program = torch.export.export(
            model, (any_images(4, 56, 70), 28 * images(1, 5, 2)), dynamic_shapes=sizes
        ).module()
        for num_points, *shape in ((7, 2, 42, 84), (3, 17, 56, 42)):
            inputs = (any_images(*shape), 28 * images(1, num_points, 2))
            found, expected = program(*inputs), model(*inputs)
            assert_alike(
                found, expected, ("pose_enc", "depth", "dynamics_mask", "track_visibility"), rtol=1e-5, atol=1e-5
            )
            torch.testing.assert_close(found.tracks, expected.tracks, rtol=1e-3, atol=1e-3)


def test_a_model_runs_where_most_of_it_lies_on_disk(folder, tmp_path):
    expected = Page4DModel.from_pretrained(folder)
    size = sum(weight.nbytes for weight in expected.state_dict().values())
    spread = Page4DModel.from_pretrained(
        folder, device_map="auto", max_memory={"cpu": size // 3}, offload_folder=tmp_path
    )
    points = 28 * torch.rand(1, 3, 2, generator=torch.Generator().manual_seed(0))

    assert set(spread.hf_device_map.values()) == {"cpu", "disk"}
    found, whole = (predict(model, query_points=points, output_hidden_states=True) for model in (spread, expected))
    assert_alike(found, whole, rtol=0, atol=0)
    assert torch.equal(found.tracks, whole.tracks)
    assert torch.equal(found.hidden_states[2], whole.hidden_states[2])


def test_no_module_that_must_stay_whole_is_split_over_devices(model):
    """Modules whose own weights are used beside those of their children."""
    own = {
        type(module).__name__
        for module in model.modules()
        if list(module.parameters(recurse=False)) and list(module.children())
    }
    assert own <= set(model._no_split_modules)
