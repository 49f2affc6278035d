"""Frames in, cameras and points out; model folders and devices that are refused; the command line."""

import fcntl
import json
import logging
import re
import shlex

import av
import numpy as np
import pytest
import torch
from PIL import Image
from plane_model import PLANE, WORLD_POINT, PlaneModel, make_frames
from small_networks import save_small_network

import page4d_hf
from page4d_hf.cli import main
from page4d_hf.configuration_page4d import Page4DConfig
from page4d_hf.errors import CheckpointError, Page4DError
from page4d_hf.frames import read_frames
from page4d_hf.geometry import project_points
from page4d_hf.image_processing_page4d import Page4DImageProcessor
from page4d_hf.model_card import OF_CARD
from page4d_hf.reconstruction.network import LARGEST_MAP, resolve_resolution
from page4d_hf.reconstruction.points import even_quotas
from page4d_hf.reconstruction.reconstruct import reconstruct
from page4d_hf.scene import read_scene
from page4d_hf.synthetic import write_synthetic_capture
from page4d_hf.weights.identity import _NOT_COMPUTED_WITH, fingerprint
from page4d_hf.weights.loading import load_config, load_model, resolve_device, resolve_dtype
from page4d_hf.weights.shipped import pull_tiny


def run(sizes=((30, 50),) * 3, change=None, times=None, **options):
    model = PlaneModel(len(sizes))
    model.change = change or model.change
    options = {"resolution": 56, "confidence_percentile": 0, "refine": "off", **options}
    return model, reconstruct(make_frames(sizes, times), model, **options)


# ---------------------------------------------------------------------------------------------------------------
# Geometry


@pytest.mark.parametrize("mode", ["crop", "pad", "square"])
@pytest.mark.parametrize("sizes", [((30, 50),) * 3, ((97, 43),) * 2, ((30, 50), (50, 30), (40, 40))])
def test_points_lie_on_what_the_cameras_saw_whatever_the_frames_went_through(mode, sizes):
    _, result = run(sizes, mode=mode)
    distance = result.points @ PLANE[:3].numpy() + PLANE[3].item()
    assert len(result.points) > 500
    np.testing.assert_allclose(distance, 0, atol=1e-4)


@pytest.mark.parametrize("mode", ["crop", "pad", "square"])
@pytest.mark.parametrize("sizes", [((30, 50),) * 3, ((97, 43),) * 2, ((30, 50), (50, 30), (40, 40))])
def test_points_project_onto_their_colour_in_the_original_image(mode, sizes):
    """The white corner of each image must be where the cameras, in original pixels, put the white points."""
    frames = make_frames(sizes)
    _, result = run(sizes, mode=mode)
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
    model, result = run()
    np.testing.assert_allclose(result.extrinsics, model.extrinsics, atol=1e-9)
    # 0.9 of the width, and of the height as the network saw it: 28 of 56 pixels for 30 of 50.
    np.testing.assert_allclose(result.intrinsics[1], [[45, 0, 25], [0, 0.9 * 56 * 30 / 28, 15], [0, 0, 1]], rtol=1e-6)
    assert caplog.text == ""


def test_maps_cover_the_whole_image_and_leave_open_what_the_crop_left_out():
    _, result = run(((100, 50),) * 2, mode="crop")
    for depth, confidence, motion in zip(result.depth, result.depth_conf, result.motion, strict=True):
        assert depth.shape == confidence.shape == motion.shape == (112, 56)
        seen = np.zeros((112, 56), bool)
        seen[28:84] = True
        np.testing.assert_array_equal(np.isfinite(depth), seen)
        np.testing.assert_array_equal(np.isfinite(motion), seen)
        np.testing.assert_array_equal(confidence > 0, seen)


def test_maps_leave_padding_out():
    _, result = run(((28, 56), (56, 28)), mode="pad")
    assert [depth.shape for depth in result.depth] == [(28, 56), (56, 28)]
    assert all(np.isfinite(depth).all() for depth in result.depth)


def test_a_single_frame_is_reconstructed():
    _, result = run(((30, 50),))
    assert len(result) == 1
    assert (result.point_times == 0).all()


# ---------------------------------------------------------------------------------------------------------------
# Which points


def test_points_carry_the_time_and_the_motion_of_their_pixel():
    _, result = run(((30, 50),) * 3, times=[10, 11, 15], motion="head")
    assert np.unique(result.point_times).tolist() == [0, np.float32(0.2), 1]
    gray = result.point_colors[:, 0]
    assert set(np.unique(gray[result.point_times == np.float32(0.2)])) >= {20, 255}
    np.testing.assert_array_equal(result.point_motion, gray > 127)


def test_the_least_confident_pixels_give_no_point():
    _, result = run(((28, 56),), confidence_percentile=25)
    # Confidence grows by rows: a quarter of 28 rows of 56 pixels is gone.
    assert len(result.points) == 21 * 56
    assert result.point_confidence.min() == np.float32(1 + 7 / 28)


def test_pixels_that_are_not_finite_give_no_point():
    def change(output):
        output.depth[0, 0, :3] = np.inf
        output.depth[0, 0, 3:5] = np.nan
        output.depth_conf[0, 0, 5:7] = np.inf

    _, result = run(((28, 56),), change)
    assert len(result.points) == (28 - 7) * 56
    assert np.isfinite(result.points).all()


def test_a_network_that_gives_no_finite_point_gives_an_empty_cloud_and_says_so(caplog):
    _, result = run(change=lambda output: output.depth.fill_(np.inf))
    assert result.points.shape == (0, 3)
    assert len(result.point_times) == len(result.point_colors) == len(result.point_motion) == 0
    assert "point cloud is empty" in caplog.text


def test_the_cap_takes_as_many_points_from_every_frame():
    _, result = run(((30, 50),) * 3, max_points=300)
    assert np.unique(result.point_times, return_counts=True)[1].tolist() == [100, 100, 100]


def test_the_same_frames_give_the_same_points():
    np.testing.assert_array_equal(run(max_points=99)[1].points, run(max_points=99)[1].points)


def test_quotas_are_as_equal_as_what_each_frame_has_to_give_allows():
    rng = np.random.default_rng(0)
    for _ in range(200):
        counts = rng.integers(0, 50, rng.integers(1, 12)).tolist()
        limit = int(rng.integers(1, 400))
        quotas = even_quotas(counts, limit)
        assert sum(quotas) == min(limit, sum(counts))
        assert all(0 <= quota <= count for quota, count in zip(quotas, counts, strict=True))
        # Whoever could give more gets no less than any other, up to the one that does not divide.
        for quota, count in zip(quotas, counts, strict=True):
            assert quota == count or quota >= max(quotas) - 1


def test_the_point_head_s_points_are_taken_on_request():
    _, result = run(points="world", confidence_percentile=50)
    assert (result.points == WORLD_POINT.numpy()).all()
    assert result.point_confidence.min() > 1.4  # its confidence falls by rows where the depth's grows
    assert len(result.points) == pytest.approx(3 * 28 * 56 / 2, abs=2)


@pytest.fixture(scope="module")
def tiny_room(tmp_path_factory):
    """A small rendered capture, and the folder of page4d-tiny."""
    room, model = tmp_path_factory.mktemp("room") / "room", tmp_path_factory.mktemp("weights") / "tiny"
    write_synthetic_capture(
        room, num_frames=16, held_out_every=16, width=128, height=96, supersampling=2, num_points=100
    )
    pull_tiny(model)
    return room, model


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
    model, result = run(sizes, points=points, refine="auto")
    np.testing.assert_allclose(result.extrinsics, model.extrinsics, atol=1e-9)
    assert result.info["refinement"]["outcome"] == "kept"
    assert told in result.info["refinement"]["note"]
    assert caplog.text.count(result.info["refinement"]["note"]) == 1


def test_cameras_are_refined_from_a_video_to_the_tracks_in_its_scene(tmp_path, capsys, tiny_room):
    room, model = tiny_room
    command(room / "video.mp4", "--model", model, "--output", tmp_path / "scene", "--max-frames", 16)
    scene = read_scene(tmp_path / "scene")
    told, tracks = scene.info["refinement"], scene.load_tracks()
    assert told["outcome"] == "refined"
    assert told["inlier_share_after"] > told["inlier_share_before"]
    printed = capsys.readouterr().out
    assert f"Cameras: refined. {told['tracks']:,} tracks, {told['static_tracks']:,} of them static;" in printed
    assert tracks.xy[told["tracks"] :].size > 0  # of what moves, tracked a second time
    assert np.isfinite(tracks.paths).all(axis=2).any(axis=1)[told["tracks"] :].any()
    assert not np.isfinite(tracks.paths).all(axis=2)[~tracks.visible].any()
    assert np.isfinite(tracks.points).all(axis=1).sum() == told["static_tracks"]
    known = np.isfinite(tracks.points).all(axis=1)
    for frame in (0, 15):
        seen = known & tracks.visible[:, frame]
        camera = torch.from_numpy(scene.extrinsics[frame]), torch.from_numpy(scene.intrinsics[frame])
        xy = project_points(torch.from_numpy(tracks.points[seen]).double(), *camera)[0].numpy()
        assert np.median(np.linalg.norm(xy - tracks.xy[seen, frame], axis=1)) < 0.3  # pixels


def test_the_network_is_asked_only_for_what_the_points_need():
    for points, heads in (("depth", ("camera", "depth")), ("world", ("camera", "depth", "point"))):
        model, _ = run(points=points, mask_strength=0.5)
        assert model.asked_for == {"mask_strength": 0.5, "heads": heads}


def without_mask(output):
    output.dynamics_mask = None


def test_without_a_mask_a_single_frame_has_no_motion():
    _, result = run(((28, 56),), without_mask)
    assert result.motion is None
    assert result.point_motion is None


def test_without_a_mask_the_geometry_shows_motion():
    _, result = run(((28, 56),) * 3, without_mask)
    assert [mask.shape for mask in result.motion] == [depth.shape for depth in result.depth]
    assert len(result.point_motion) == len(result.points)


# ---------------------------------------------------------------------------------------------------------------
# What a network may get wrong


def test_a_field_of_view_that_no_camera_has_is_replaced_by_the_median_of_the_others(caplog):
    def change(output):
        output.pose_enc[0, 1, 7:] = torch.tensor([0.0, 0.0])  # a ReLU that is shut

    _, result = run(change=change)
    assert "no possible field of view for 1 of 3 frames; the median" in caplog.text
    np.testing.assert_allclose(result.intrinsics[1], result.intrinsics[0])


def test_where_no_frame_has_a_possible_field_of_view_60_degrees_stand_in(caplog):
    def change(output):
        output.pose_enc[0, :, 7:] = torch.tensor([0.0, 3.1])

    _, result = run(((28, 56),) * 2, change)
    assert "for 2 of 2 frames; a usual one, 60 degrees" in caplog.text
    focal = 28 / np.tan(np.pi / 6)
    np.testing.assert_allclose(result.intrinsics[0], [[focal, 0, 28], [0, focal, 14], [0, 0, 1]], rtol=1e-6)


def test_a_camera_that_is_not_finite_is_an_error():
    def change(output):
        output.pose_enc[0, 1, 0] = np.nan

    with pytest.raises(Page4DError, match=r"no finite camera for 1 of 3 frames \(first: 1\).*float32"):
        run(change=change)


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
        run(change=change)


def test_another_error_of_the_network_stays_what_it_is():
    def change(output):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run(change=change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": ()}, "at least one image, got none"),
        ({"resolution": 500}, "multiple of the patch size 14, got 500; the nearest are 490 and 504"),
        ({"confidence_percentile": 100}, "percentile from 0 to below 100, got 100"),
        ({"confidence_percentile": float("nan")}, "percentile from 0 to below 100"),
        ({"max_points": 0}, "at least 1 point, got 0"),
        ({"points": "cloud"}, "points from depth or world, got 'cloud'"),
        ({"device": "cpu"}, "device and dtype are of a model that is loaded"),
    ],
)
def test_options_out_of_their_range_are_refused(options, message):
    with pytest.raises(Page4DError, match=message):
        run(**options)


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


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_small_network(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def clip(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    for i, image in enumerate(make_frames(((30, 50),) * 12).images):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def own_model_folder(model_folder, tmp_path):
    """A copy to damage."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in model_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


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


def test_a_configuration_that_asks_for_tuples_changes_nothing(model_folder):
    model, processor = load_model(model_folder, device="cpu")
    model.config.return_dict = False
    assert len(reconstruct(make_frames(((30, 50),)), model, image_processor=processor, resolution=28)) == 1


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


def test_a_fingerprint_follows_the_weights(model_folder, own_model_folder):
    assert fingerprint(model_folder) == fingerprint(own_model_folder)
    path = own_model_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert fingerprint(model_folder) != fingerprint(own_model_folder)
    assert fingerprint("someone/page4d") is None


def test_weights_that_are_cut_off_have_no_fingerprint(own_model_folder):
    path = own_model_folder / "model.safetensors"
    for content in (path.read_bytes()[:100], b"\xff" * 8, b"", (2).to_bytes(8, "little") + b"[]"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="are broken or cut off; fetch or convert"):
            fingerprint(own_model_folder)


def test_what_a_card_says_is_no_part_of_a_fingerprint():
    assert set(OF_CARD) < set(_NOT_COMPUTED_WITH)


def test_a_fingerprint_is_the_same_with_every_version_of_the_libraries(model_folder, own_model_folder, monkeypatch):
    before = fingerprint(own_model_folder)
    path = own_model_folder / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "transformers_version": "9.9.9"}))
    monkeypatch.setattr(Page4DConfig, "to_dict", lambda self: {"default_of_another_version": 1})

    assert fingerprint(own_model_folder) == before == fingerprint(model_folder)


# ---------------------------------------------------------------------------------------------------------------
# Models and devices that are not there


def test_a_folder_without_a_model_is_refused_and_says_how_to_get_one(tmp_path):
    for path, message in (
        (tmp_path / "absent", "No model folder .*absent; fetch .*page4d pull nomask --output .*absent.*page4d convert"),
        (tmp_path, "is no model folder: it has no config.json; fetch .*page4d pull"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_model(path, device="cpu")


def test_a_checkpoint_file_is_refused_and_says_how_to_convert_it(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"is a file.*page4d convert .*checkpoint\.pt OUT"):
        load_model(tmp_path / "checkpoint.pt", device="cpu")


def test_a_repository_that_cannot_be_reached_is_refused(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="no folder someone/page4d, nor can it be had from the Hub; fetch"):
        load_config("someone/page4d")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"model_type": "bert"}), "a model of type bert, not page4d"),
        ("{}", "a model of type None, not page4d"),
        ("{", r"Cannot read .*config\.json"),
        (json.dumps({"model_type": "page4d", "hidden_size": "wide"}), "configuration in .* is not valid"),
        (json.dumps({"model_type": "page4d", "mask_form": "square"}), "configuration in .* is not valid"),
    ],
)
def test_a_configuration_of_something_else_is_refused(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_config(tmp_path)


def test_weights_that_are_cut_off_are_refused(own_model_folder):
    path = own_model_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="broken or cut off"):
        load_model(own_model_folder, device="cpu")


def test_weights_that_are_missing_are_refused(own_model_folder):
    (own_model_folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"Cannot load the weights in .*model"):
        load_model(own_model_folder, device="cpu")


def test_weights_of_a_part_of_the_network_are_refused(own_model_folder):
    from safetensors.torch import load_file, save_file

    path = own_model_folder / "model.safetensors"
    tensors = load_file(path)
    gone = next(name for name in tensors if name.startswith("camera_head"))
    del tensors[gone]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"lack 1 tensors of the network, such as {re.escape(gone)}"):
        load_model(own_model_folder, device="cpu")


def test_weights_of_another_size_are_refused(own_model_folder):
    config = json.loads((own_model_folder / "config.json").read_text())
    (own_model_folder / "config.json").write_text(json.dumps({**config, "mask_hidden_size": 12}))
    with pytest.raises(CheckpointError, match=r"Cannot load the weights in .*model"):
        load_model(own_model_folder, device="cpu")


def test_a_model_folder_without_an_image_processor_gets_one_that_fits(own_model_folder):
    (own_model_folder / "preprocessor_config.json").unlink()
    _, processor = load_model(own_model_folder, device="cpu")
    assert (processor.mode, processor.patch_size, dict(processor.size)) == ("crop", 14, {"height": 70, "width": 70})


def test_the_model_s_patch_size_goes_before_the_image_processor_s():
    model = PlaneModel(1)
    model.config = Page4DConfig(patch_size=16, image_size=64)
    result = reconstruct(make_frames(((30, 50),)), model, image_processor=Page4DImageProcessor(), resolution=64)
    assert result.depth[0].shape == (32, 64)
    assert reconstruct(make_frames(((30, 50),)), model, resolution=64).depth[0].shape == (32, 64)


def test_a_gpu_where_there_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Page4DError, match="device cuda:0 was asked for, but PyTorch finds no CUDA GPU here"):
        resolve_device("cuda:0")
    assert resolve_device("auto") == resolve_device(None) == torch.device("cpu")


def test_a_gpu_beyond_the_last_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(Page4DError, match="cuda:2 was asked for, but there are only 2 GPUs"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "0", ""])
def test_a_device_that_is_no_device_is_refused(device):
    with pytest.raises(Page4DError, match="Expected the device auto, cpu, cuda"):
        resolve_device(device)


def test_the_dtype_follows_the_device(monkeypatch):
    assert resolve_dtype("auto", torch.device("cpu")) == torch.float32
    for capability, expected in (((9, 0), torch.bfloat16), ((7, 5), torch.float16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert resolve_dtype(None, torch.device("cuda")) == expected
    assert resolve_dtype("float16", torch.device("cpu")) == resolve_dtype(torch.float16, torch.device("cpu"))
    with pytest.raises(Page4DError, match="Expected the dtype auto, float32"):
        resolve_dtype("int8", torch.device("cpu"))


# ---------------------------------------------------------------------------------------------------------------
# The command line


def command(*arguments):
    main(["reconstruct", *map(str, arguments)])


def test_the_command_writes_a_scene_and_says_what_to_do_next(clip, model_folder, tmp_path, capsys):
    scene_folder = tmp_path / "scene"
    command(clip, "--model", model_folder, "--output", scene_folder, "--resolution", 56, "--max-frames", 4)
    scene = read_scene(scene_folder)
    np.testing.assert_allclose(scene.times, [0, 4 / 11, 7 / 11, 1])
    assert scene.load_depth(3).shape == (28, 56)
    assert scene.info["model"] == str(model_folder)
    assert scene.info["weights"] == fingerprint(model_folder)
    assert scene.info["options"]["resolution"] == 56
    said = capsys.readouterr()
    assert re.search(rf"Wrote {scene_folder}: 4 frames and [\d,]+ points", said.out)
    assert re.search(r"It took [\d.]+ s and at most [\d.]+ GiB", said.out)
    assert f"Next: ns-train page4d-4dgs --data {scene_folder}" in said.out
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


def test_commands_that_are_printed_can_be_given_to_a_shell(clip, model_folder, tmp_path, capsys):
    scene_folder = tmp_path / "it's my scene"
    command(clip, "--model", model_folder, "--output", scene_folder, "--resolution", 56, "--max-frames", 2)
    line = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(line.removeprefix("Next: ")) == ["ns-train", "page4d-4dgs", "--data", str(scene_folder)]


def test_after_a_single_frame_no_training_is_suggested(clip, model_folder, tmp_path, capsys):
    command(clip, "--model", model_folder, "--output", tmp_path / "scene", "--resolution", 56, "--max-frames", 1)
    assert "Next:" not in capsys.readouterr().out
    with pytest.raises(CheckpointError) as refused:
        load_config(tmp_path / "no model")
    pull = re.search("`(page4d pull .*?)`", str(refused.value))
    assert shlex.split(pull[1])[-1] == str(tmp_path / "no model")
    (tmp_path / "a file.pt").touch()
    with pytest.raises(CheckpointError, match=r"`page4d convert '.*/a file\.pt' OUT`"):
        load_config(tmp_path / "a file.pt")


def test_several_images_on_the_command_line_are_taken_in_their_order(clip, model_folder, tmp_path):
    command(clip / "7.png", clip / "3.png", "--model", model_folder, "--output", tmp_path / "scene", "--resolution", 56)
    assert [frame["source"] for frame in read_scene(tmp_path / "scene").info["frames"]] == ["7.png", "3.png"]


def test_frames_of_different_sizes_are_reconstructed_with_a_note(clip, model_folder, tmp_path, caplog):
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(clip / "12.png")
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        command(clip, "--model", model_folder, "--output", tmp_path / "scene", "--resolution", 56, "--max-frames", 3)
    finally:
        logger.removeHandler(caplog.handler)
    assert "different sizes (28 x 56, 56 x 56 after resizing, height x width) are padded with white" in caplog.text
    scene = read_scene(tmp_path / "scene")
    assert scene.image_sizes.tolist() == [[50, 30], [50, 30], [50, 50]]
    assert [scene.load_depth(i).shape for i in range(3)] == [(28, 56), (28, 56), (56, 56)]


def test_the_command_follows_the_mode_of_the_model_s_image_processor(clip, own_model_folder, tmp_path):
    Page4DImageProcessor(mode="pad").save_pretrained(own_model_folder)
    options = ("--model", own_model_folder, "--resolution", 56, "--max-frames", 1)
    command(clip, *options, "--output", tmp_path / "default")
    command(clip, *options, "--output", tmp_path / "crop", "--mode", "crop")
    assert [read_scene(tmp_path / name).info["options"]["mode"] for name in ("default", "crop")] == ["pad", "crop"]


def test_each_bad_command_ends_in_one_sentence_and_leaves_nothing_behind(clip, model_folder, tmp_path, capsys):
    no_point_head = tmp_path / "no_point_head"
    Page4DConfig(enable_point=False).save_pretrained(no_point_head)
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "keep.txt").write_text("x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.png").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    fine = {"--model": model_folder, "--output": tmp_path / "scene", "--resolution": 56}
    cases = [
        (tmp_path / "absent", {}, "No such file or folder: .*absent"),
        (tmp_path / "empty", {}, "empty is empty"),
        (tmp_path / "*.mov", {}, r"Nothing matches .*\.mov"),
        (tmp_path / "broken", {}, r"Cannot read the image .*0\.png"),
        (clip, {"--resolution": 57}, "multiple of the patch size 14, got 57; the nearest are 56 and 70"),
        (clip, {"--max-frames": 0}, "at least 1 frame"),
        (clip, {"--fps": 5}, "without timestamps"),
        # Before the frames are read.
        (tmp_path / "broken", {"--confidence-percentile": 100}, "percentile"),
        (tmp_path / "broken", {"--max-points": 0}, "at least 1 point"),
        (tmp_path / "broken", {"--points": "world", "--model": no_point_head}, "needs a point head"),
        (tmp_path / "broken", {"--tracks": tmp_path / "absent.npz"}, r"absent\.npz is missing"),
        (tmp_path / "broken", {"--tracks": tmp_path / "x.npz", "--refine": "off"}, "they take --refine auto"),
        (
            tmp_path / "broken",
            {"--split-cuts": None, "--masks": tmp_path},
            "--split-cuts takes no tracks, cameras, masks",
        ),
        (clip, {"--device": "gpu"}, "Expected the device"),
        (clip, {"--model": tmp_path / "absent"}, "page4d pull"),
        # Nothing that costs time is done, or even looked at, for a result that has no place to go.
        (tmp_path / "absent", {"--output": tmp_path / "photos", "--model": "x"}, "not empty"),
        (
            tmp_path / "absent",
            {"--output": tmp_path / "photos", "--model": "x", "--overwrite": None},
            "did not write keep.txt",
        ),
        (tmp_path / "absent", {"--output": tmp_path / "photos" / "keep.txt", "--model": "x"}, "is a file"),
        (tmp_path / "absent", {"--output": tmp_path / "photos" / "keep.txt" / "x", "--model": "x"}, "Cannot write"),
        (tmp_path / "absent", {"--output": "/proc/x", "--model": "x"}, "Cannot write /proc/x"),
        (tmp_path / "absent", {"--output": tmp_path / ("x" * 240), "--model": "x"}, "Cannot write .*name too long"),
        (tmp_path / "absent", {"--output": tmp_path / "a\0b", "--model": "x"}, "cannot be a name"),
        (tmp_path / "absent", {"--output": tmp_path / "\udcff", "--model": "x"}, "cannot be a name"),
        (tmp_path / "absent", {"--output": tmp_path / "loop", "--model": "x"}, "cannot be a name"),
        # Values far out of range.
        (clip, {"--fps": 1e300}, "frame rate above 0 and up to 1,000,000, got 1e"),
        (clip, {"--resolution": 2_000_000_012}, "resolution of up to 4096, got 2000000012"),
        (clip, {"--device": "cuda:300"}, "Expected the device"),
        (clip, {"--device": "cuda:99999999999999999999"}, "Expected the device"),
        (clip, {"--model": "x" * 5000}, "No model folder"),
        (clip, {"--model": "~no-such-user/model"}, "No model folder"),
        ("x" * 5000, {}, "No such file or folder"),
    ]
    if not torch.cuda.is_available():
        cases.append((clip, {"--device": "cuda"}, "no CUDA GPU here; use --device cpu"))
    before = sorted(tmp_path.rglob("*"))
    for source, options, message in cases:
        arguments = [word for pair in {**fine, **options}.items() for word in pair if word is not None]
        with pytest.raises(SystemExit) as ended:
            command(source, *arguments)
        said = capsys.readouterr()
        sentences = [line for line in said.err.splitlines() if line.startswith("page4d: ")]
        assert ended.value.code == 1
        assert said.out == ""
        assert len(sentences) == 1
        assert re.search(message, sentences[0]), sentences[0]
        assert "Traceback" not in said.err
        assert sorted(tmp_path.rglob("*")) == before


def test_a_scene_is_replaced_only_with_overwrite(clip, model_folder, tmp_path, capsys):
    arguments = [clip, "--model", model_folder, "--output", tmp_path / "scene", "--resolution", 56]
    command(*arguments, "--max-frames", 2)
    with pytest.raises(SystemExit):
        command(*arguments)
    assert "pass --overwrite" in capsys.readouterr().err
    assert len(read_scene(tmp_path / "scene")) == 2
    command(*arguments, "--max-frames", 3, "--overwrite")
    assert len(read_scene(tmp_path / "scene")) == 3


def test_overwrite_spares_what_a_user_keeps_in_a_scene(clip, model_folder, tmp_path, capsys):
    arguments = [clip, "--model", model_folder, "--output", tmp_path / "scene", "--resolution", 56, "--max-frames", 1]
    command(*arguments)
    kept = tmp_path / "scene" / "outputs" / "run" / "step-000029999.ckpt"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"a night's training")
    with pytest.raises(SystemExit):
        command(*arguments, "--overwrite")
    assert "page4d did not write outputs/run/step-000029999.ckpt" in capsys.readouterr().err
    assert kept.read_bytes() == b"a night's training"


def test_a_second_reconstruction_into_one_folder_is_refused_before_anything_runs(tmp_path, capsys):
    with open(tmp_path / ".scene.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit):
            command(tmp_path / "absent", "--model", "x", "--output", tmp_path / "scene")
    assert "scene is being written by another process" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(3000, 1), (1, 3000)])
@pytest.mark.parametrize("mode", ["crop", "pad"])
def test_maps_of_an_image_of_any_aspect_are_bounded(size, mode):
    _, scene = run(sizes=(size,) * 2, mode=mode, max_points=10)
    height, width = scene.depth[0].shape
    assert height * width <= 1.1 * LARGEST_MAP * 56 * 56
    assert scene.depth_conf[0].shape == (height, width)
