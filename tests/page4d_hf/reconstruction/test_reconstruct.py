"""Frames in, cameras and maps out, by a perfect network, a broken one, and a real one that is small."""

import av
import numpy as np
import pytest
import torch
from PIL import Image
from plane_model import PLANE, PlaneModel, make_frames, reconstruct_plane

import page4d_hf
from page4d_hf.configuration_page4d import Page4DConfig
from page4d_hf.errors import Page4DError
from page4d_hf.frames import read_frames
from page4d_hf.geometry import project_points
from page4d_hf.image_processing_page4d import Page4DImageProcessor
from page4d_hf.reconstruction.network import LARGEST_MAP, resolve_resolution
from page4d_hf.reconstruction.reconstruct import reconstruct
from page4d_hf.weights.loading import load_model

# ---------------------------------------------------------------------------------------------------------------
# Geometry


@pytest.mark.parametrize("mode", ["crop", "pad", "square"])
@pytest.mark.parametrize("sizes", [((30, 50),) * 3, ((97, 43),) * 2, ((30, 50), (50, 30), (40, 40))])
def test_points_lie_on_what_the_cameras_saw_whatever_the_frames_went_through(mode, sizes):
    _, result = reconstruct_plane(sizes, mode=mode)
    distance = result.points @ PLANE[:3].numpy() + PLANE[3].item()
    assert len(result.points) > 500
    np.testing.assert_allclose(distance, 0, atol=1e-4)


@pytest.mark.parametrize("mode", ["crop", "pad", "square"])
@pytest.mark.parametrize("sizes", [((30, 50),) * 3, ((97, 43),) * 2, ((30, 50), (50, 30), (40, 40))])
def test_points_project_onto_their_colour_in_the_original_image(mode, sizes):
    """The white corner of each image must be where the cameras, in original pixels, put the white points."""
    frames = make_frames(sizes)
    _, result = reconstruct_plane(sizes, mode=mode)
    times = np.round(result.point_times * (len(sizes) - 1)).astype(int)
    checked = 0
    for i, image in enumerate(frames.images):
        points = torch.from_numpy(result.points[times == i]).double()
        camera = torch.from_numpy(result.extrinsics[i]), torch.from_numpy(result.intrinsics[i])
        uv = project_points(points, *camera)[0].numpy()
        height, width = image.shape[:2]
        assert (uv > 0).all()
        assert (uv < (width, height)).all()
        # Away from the edges of corner and image, as far as the filter reaches that made the network's input.
        reach = 2.5 * max(1, max(height, width) / 56)
        edges = np.array([[0, 0], [width // 3, height // 3], [width, height]])
        sharp = (np.abs(uv[:, None] - edges) > reach).all(axis=(1, 2))
        expected = image[uv[sharp, 1].astype(int), uv[sharp, 0].astype(int)]
        np.testing.assert_allclose(result.point_colors[times == i][sharp], expected, atol=1)
        checked += sharp.sum()
    assert checked > 200


def test_cameras_are_those_of_the_network(caplog):
    model, result = reconstruct_plane()
    np.testing.assert_allclose(result.extrinsics, model.extrinsics, atol=1e-9)
    # 0.9 of the width, and of the height as the network saw it: 28 of 56 pixels for 30 of 50.
    np.testing.assert_allclose(result.intrinsics[1], [[45, 0, 25], [0, 0.9 * 56 * 30 / 28, 15], [0, 0, 1]], rtol=1e-6)
    assert caplog.text == ""


def test_maps_cover_the_whole_image_and_leave_open_what_the_crop_left_out():
    _, result = reconstruct_plane(((100, 50),) * 2, mode="crop")
    for depth, confidence, motion in zip(result.depth, result.depth_conf, result.motion, strict=True):
        assert depth.shape == confidence.shape == motion.shape == (112, 56)
        seen = np.zeros((112, 56), bool)
        seen[28:84] = True
        np.testing.assert_array_equal(np.isfinite(depth), seen)
        np.testing.assert_array_equal(np.isfinite(motion), seen)
        np.testing.assert_array_equal(confidence > 0, seen)


def test_maps_leave_padding_out():
    _, result = reconstruct_plane(((28, 56), (56, 28)), mode="pad")
    assert [depth.shape for depth in result.depth] == [(28, 56), (56, 28)]
    assert all(np.isfinite(depth).all() for depth in result.depth)


@pytest.mark.parametrize("size", [(3000, 1), (1, 3000)])
@pytest.mark.parametrize("mode", ["crop", "pad"])
def test_maps_of_an_image_of_any_aspect_are_bounded(size, mode):
    _, scene = reconstruct_plane(sizes=(size,) * 2, mode=mode, max_points=10)
    height, width = scene.depth[0].shape
    assert height * width <= 1.1 * LARGEST_MAP * 56 * 56
    assert scene.depth_conf[0].shape == (height, width)


# ---------------------------------------------------------------------------------------------------------------
# Refinement and motion


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "points", "told"),
    [
        (((30, 50),), "depth", "tracks take 3 frames, got 1"),
        (((30, 50), (30, 50), (50, 30), (30, 50)), "depth", "tracks need frames of one size, and these differ"),
        (((30, 50),) * 4, "world", "points of the point head do not follow them"),
        (((30, 50),) * 4, "depth", "points could be followed, of which 50 are needed"),
    ],
)
def test_where_cameras_cannot_be_refined_the_network_s_are_kept_and_a_sentence_says_why(sizes, points, told, caplog):
    model, result = reconstruct_plane(sizes, points=points, refine="auto")
    np.testing.assert_allclose(result.extrinsics, model.extrinsics, atol=1e-9)
    assert result.info["refinement"]["outcome"] == "kept"
    assert told in result.info["refinement"]["note"]
    assert caplog.text.count(result.info["refinement"]["note"]) == 1


def test_a_crop_that_loses_much_of_the_frames_is_told_with_the_mode_that_loses_nothing(caplog):
    reconstruct_plane(((97, 43), (30, 50)), mode="crop")
    assert "The network sees the middle 44 % of a frame; --mode balanced" in caplog.text
    caplog.clear()
    reconstruct_plane(((97, 43), (30, 50)), mode="pad")
    reconstruct_plane(((50, 50),) * 2, mode="crop")
    assert caplog.text == ""


def test_the_network_is_asked_only_for_what_the_points_need():
    for points, heads in (("depth", ("camera", "depth")), ("world", ("camera", "depth", "point"))):
        model, _ = reconstruct_plane(points=points, mask_strength=0.5)
        assert model.asked_for == {"mask_strength": 0.5, "heads": heads}


def without_mask(output):
    output.dynamics_mask = None


def test_without_a_mask_a_single_frame_has_no_motion():
    _, result = reconstruct_plane(((28, 56),), without_mask)
    assert result.motion is None
    assert result.point_motion is None


def test_without_a_mask_the_geometry_shows_motion():
    _, result = reconstruct_plane(((28, 56),) * 3, without_mask)
    assert [mask.shape for mask in result.motion] == [depth.shape for depth in result.depth]
    assert len(result.point_motion) == len(result.points)


# ---------------------------------------------------------------------------------------------------------------
# What a network may get wrong


def test_a_field_of_view_that_no_camera_has_is_replaced_by_the_median_of_the_others(caplog):
    def change(output):
        output.pose_enc[0, 1, 7:] = torch.tensor([0.0, 0.0])  # a ReLU that is shut

    _, result = reconstruct_plane(change=change)
    assert "no possible field of view for 1 of 3 frames; the median" in caplog.text
    np.testing.assert_allclose(result.intrinsics[1], result.intrinsics[0])


def test_where_no_frame_has_a_possible_field_of_view_60_degrees_stand_in(caplog):
    def change(output):
        output.pose_enc[0, :, 7:] = torch.tensor([0.0, 3.1])

    _, result = reconstruct_plane(((28, 56),) * 2, change)
    assert "for 2 of 2 frames; a usual one, 60 degrees" in caplog.text
    focal = 28 / np.tan(np.pi / 6)
    np.testing.assert_allclose(result.intrinsics[0], [[focal, 0, 28], [0, focal, 14], [0, 0, 1]], rtol=1e-6)


def test_a_camera_that_is_not_finite_is_an_error():
    def change(output):
        output.pose_enc[0, 1, 0] = np.nan

    with pytest.raises(Page4DError, match=r"no finite camera for 1 of 3 frames \(first: 1\).*float32"):
        reconstruct_plane(change=change)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
    ],
)
def test_a_device_that_runs_out_of_memory_is_an_error_that_says_what_to_do(error):
    def change(output):
        raise error

    with pytest.raises(
        Page4DError,
        match="does not hold 3 frames at a width of 56; take a smaller --window",
    ):
        reconstruct_plane(change=change)


def test_another_error_of_the_network_stays_what_it_is():
    def change(output):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        reconstruct_plane(change=change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence_percentile": 100}, "percentile from 0 to below 100, got 100"),
        ({"confidence_percentile": float("nan")}, "percentile from 0 to below 100"),
        ({"max_points": 0}, "at least 1 point, got 0"),
        ({"points": "cloud"}, "points from depth or world, got 'cloud'"),
        ({"device": "cpu"}, "device and dtype are of a model that is loaded"),
        ({"window": 3}, "windows of at least 4 frames, got 3"),
        ({"window": 10, "overlap": 1}, "from 2 frames to half of a window of 10, got 1"),
        ({"window": 10, "overlap": 6}, "from 2 frames to half of a window of 10, got 6"),
        ({"distortion": "fisheye"}, "Expected distortion to be none or radial, got 'fisheye'"),
        ({"distortion": "radial", "refine": "off"}, "it takes --refine auto and --points depth"),
        ({"tracker": "dots"}, "Expected tracker to be flow or head, got 'dots'"),
        ({"tracker": "head", "refine": "off"}, "it takes --refine auto, --points depth and no --tracks"),
        ({"tracker": "head"}, "a model that has one, and this has none; take --tracker flow"),
        ({"cameras": "absent"}, "Expected cameras in a transforms.json"),
        ({"cameras": "known", "metric_depth": "metric"}, "leave out --metric-depth, or --cameras"),
        ({"intrinsics": "1,2"}, "Expected intrinsics as fx,fy,cx,cy"),
        ({"intrinsics": "100,100,64,48", "points": "world"}, "these take --points depth"),
        ({"masks": "absent"}, "Expected a folder of masks, 0 where pixels are hidden; there is no folder 'absent'"),
        ({"motion": "absent"}, "head, geometry, both or a folder of masks, got 'absent'"),
    ],
)
def test_wrong_options_are_refused_before_frames_are_read(options, message):
    with pytest.raises(Page4DError, match=message):
        reconstruct("no-such-video.mp4", PlaneModel(1), **options)


def test_no_frames_at_all_are_refused():
    with pytest.raises(Page4DError, match="at least one image, got none"):
        reconstruct_plane(())


def test_a_model_without_a_head_that_is_needed_is_refused():
    for head, points in (("point", "world"), ("depth", "depth"), ("camera", "depth")):
        model = PlaneModel(1)
        model.config = Page4DConfig(**{f"enable_{head}": False})
        setattr(model, f"{head}_head", None)
        with pytest.raises(Page4DError, match=f"needs a {head} head, and .* with enable_{head}=False"):
            reconstruct(make_frames(((28, 28),)), model, resolution=28, points=points)


def test_the_nearest_resolutions_are_named():
    assert resolve_resolution(518, Page4DImageProcessor(), 14) == 518
    for resolution, nearest in ((519, "518 and 532"), (5, "14 and 28"), (-3, "14 and 28")):
        with pytest.raises(Page4DError, match=f"got {resolution}; the nearest are {nearest}"):
            resolve_resolution(resolution, Page4DImageProcessor(), 14)


# ---------------------------------------------------------------------------------------------------------------
# The real network, tiny and untrained


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_network_reconstructs_in_full_and_half_precision(model_folder, dtype):
    model, processor = load_model(model_folder, device="cpu", dtype=dtype)
    result = reconstruct(make_frames(((30, 50),) * 3), model, image_processor=processor, resolution=56)
    assert model.dtype == getattr(torch, dtype)
    assert result.depth[0].shape == (28, 56)
    assert np.isfinite(result.points).all()
    assert result.motion is not None
    assert 0 <= result.point_motion.min() <= result.point_motion.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["files", "folder", "glob", "PIL images", "arrays", "one array", "frames"])
def test_images_of_every_kind_are_reconstructed_alike_by_a_model_or_its_folder(model_folder, clip, kind):
    frames = read_frames(clip)
    images = {
        "files": list(frames.paths),
        "folder": clip,
        "glob": f"{clip}/*.png",
        "PIL images": [Image.open(path) for path in frames.paths],
        "arrays": frames.images,
        "one array": np.stack(frames.images),
        "frames": frames,
    }[kind]
    model, processor = load_model(model_folder, device="cpu")
    expected = reconstruct(frames, model, image_processor=processor, resolution=28, max_frames=3)
    made = page4d_hf.reconstruct(images, model_folder, resolution=28, max_frames=3, device="cpu")
    np.testing.assert_array_equal(made.extrinsics, expected.extrinsics)
    np.testing.assert_array_equal(made.points, expected.points)
    assert [image.mean() for image in made.frames.images] == [frames.images[i].mean() for i in (0, 6, 11)]


def test_a_video_is_reconstructed_at_a_frame_rate(model_folder, tmp_path):
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    made = reconstruct(tmp_path / "clip.mp4", str(model_folder), fps=2, resolution=28, device="cpu")
    assert made.frames.names == ["frame_00000", "frame_00005"]
    assert made.info["model"] == str(model_folder)


@pytest.mark.slow
def test_the_mask_is_as_strong_as_is_asked_and_the_model_stays_as_it_was(model_folder):
    model, processor = load_model(model_folder, device="cpu")
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    before = model.config.to_dict()
    frames = make_frames(((30, 50),) * 3)
    results = [
        reconstruct(frames, model, image_processor=processor, resolution=56, mask_strength=strength)
        for strength in (None, 1.0, 0.0)
    ]
    assert model.config.to_dict() == before
    model.config.mask_strength = 0.0
    unmasked = reconstruct(frames, model, image_processor=processor, resolution=56)
    np.testing.assert_array_equal(results[0].extrinsics, results[1].extrinsics)
    np.testing.assert_array_equal(results[2].extrinsics, unmasked.extrinsics)
    assert not np.array_equal(results[0].extrinsics, results[2].extrinsics)
    with pytest.raises(Page4DError, match="mask_strength is 2; it must lie in"):
        reconstruct(frames, model, image_processor=processor, resolution=28, mask_strength=2)


def test_a_model_in_training_reconstructs_as_in_evaluation_and_goes_on_training(model_folder):
    frames = make_frames(((30, 50),) * 2)
    model, processor = load_model(model_folder, device="cpu")
    expected = reconstruct(frames, model, image_processor=processor, resolution=28)
    model.train().set_training_step(10**6)  # its schedule has taken the mask away
    model.encoder.eval()  # frozen
    result = reconstruct(frames, model, image_processor=processor, resolution=28)
    np.testing.assert_array_equal(result.extrinsics, expected.extrinsics)
    with pytest.raises(RuntimeError, match="out of the way"):
        reconstruct(frames, model, image_processor=processor, resolution=28, progress=interrupt)
    assert model.training
    assert model.aggregator.training
    assert not model.encoder.training


def interrupt(stage, done, total):
    """Progress that ends a reconstruction in the middle of the network."""
    if stage == "network" and done == 3:
        raise RuntimeError("out of the way")


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [None, 56])
def test_the_image_processor_s_own_height_is_kept(model_folder, resolution):
    model, _ = load_model(model_folder, device="cpu")
    processor = Page4DImageProcessor(size={"height": 28, "width": 56}, do_resize=False, do_rescale=False)
    result = reconstruct(
        make_frames(((50, 50),)), model, image_processor=processor, resolution=resolution, confidence_percentile=0
    )
    assert result.depth[0].shape == (56, 56)
    assert np.isfinite(result.depth[0]).all(axis=1).sum() == 28  # the rest was cropped


def test_network_input_with_its_sizes_goes_into_the_model_as_it_is(model_folder):
    model, processor = load_model(model_folder, device="cpu")
    inputs = processor([np.zeros((30, 50, 3), np.uint8)] * 2, size=56)
    with torch.no_grad():
        output = model(**inputs)
    frame = processor.post_process_depth(output, inputs.original_sizes, inputs.image_boxes)[0][1]
    assert frame["predicted_depth"].shape == (30, 50)


def test_progress_is_told_layer_by_layer_up_to_the_end(model_folder):
    model, processor = load_model(model_folder, device="cpu")
    told = []
    frames = make_frames(((28, 28),) * 2)
    reconstruct(frames, model, image_processor=processor, resolution=28, progress=lambda *report: told.append(report))
    stages = dict.fromkeys(stage for stage, _, _ in told)
    assert list(stages) == ["resizing", "network", "tracks", "motion", "points"]
    for stage in stages:
        done, totals = zip(*[(done, total) for name, done, total in told if name == stage], strict=True)
        assert done[0] == 0
        assert list(done) == sorted(done)
        assert done[-1] == totals[-1]
    # 2 encoder layers, 5 frame and 5 global layers, mask, camera and depth heads; and nothing stays behind.
    assert ("network", 14, 15) in told
    assert not any(module._forward_hooks for module in model.modules())


def test_the_model_s_patch_size_goes_before_the_image_processor_s():
    model = PlaneModel(1)
    model.config = Page4DConfig(patch_size=16, image_size=64)
    result = reconstruct(make_frames(((30, 50),)), model, image_processor=Page4DImageProcessor(), resolution=64)
    assert result.depth[0].shape == (32, 64)
    assert reconstruct(make_frames(((30, 50),)), model, resolution=64).depth[0].shape == (32, 64)
