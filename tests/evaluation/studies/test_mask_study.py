"""The study of what the mask does: its figures against closed forms and evo, its exclusions, and the whole program."""

from __future__ import annotations

import json
from pathlib import Path

import mask_study as program
import numpy as np
import pytest
import torch
from evaluator.metrics.depth import depth_figures
from evaluator.metrics.scores import EvaluationError, ExclusionError
from evaluator.metrics.trajectories import camera_figures
from evaluator.sequences import EvaluatedSequence
from evaluator.studies.global_attention import measured_attention
from evaluator.studies.mask_study import (
    LOOKING,
    PLAIN,
    ClipResult,
    MaskStudy,
    attention_figures,
    study_clip,
    study_clips,
    summarise,
)
from evaluator.studies.study_clips import StudyClip, Synthetic, at_network_pixels, clip_of_sequence, synthetic_clips
from scipy.spatial.transform import Rotation
from small_networks import NUM_LAYERS, small_network

from page4d_hf import Page4DImageProcessor
from page4d_hf.captures import as_pinhole, read_capture
from page4d_hf.synthetic import SyntheticOptions, write_synthetic_capture
from page4d_hf.utils.folders import MANIFEST

# Bodies so near and fast that half of a patch of 14 pixels moves.
SCENES = SyntheticOptions(moving_share=1.0)


def clips(frames: int = 3) -> list[StudyClip]:
    return list(synthetic_clips(Synthetic(clips=1, frames=frames, seed=0, scenes=SCENES), (42, 56)))


def changed(clip: StudyClip, **values) -> StudyClip:
    return StudyClip(**(vars(clip) | values))


def random_path(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rotations = Rotation.from_rotvec(rng.normal(0, 0.3, (count, 3))).as_matrix()
    return np.concatenate((rotations, rng.normal(0, 1, (count, 3, 1))), axis=-1)


# Figures


def test_the_rotation_error_is_relative_to_the_first_frame():
    expected = random_path(3, seed=0)
    found = expected.copy()
    found[2, :, :3] = Rotation.from_rotvec([0, np.radians(10), 0]).as_matrix() @ found[2, :, :3]

    assert camera_figures(found, expected)["rotation_error"] == pytest.approx(5)  # the mean of 0 and 10 degrees


def test_even_attention_is_the_uniform_share():
    model = small_network()
    for layer in model.aggregator.global_layers:
        torch.nn.init.zeros_(layer.attention.q_norm.weight)
        torch.nn.init.zeros_(layer.attention.q_norm.bias)
    [clip] = clips()
    moving = clip.moving_patches(14, 0.5)
    with torch.no_grad(), measured_attention(model, moving[None]) as measured:
        model(clip.pixel_values[None], mask_strength=0.0)

    for layer in range(NUM_LAYERS):
        figures = attention_figures(measured.layers[layer], moving)
        assert sorted(figures) == sorted(LOOKING)
        for figure in figures.values():
            assert figure["share"] == pytest.approx(figure["uniform"], rel=1e-5)
            assert figure["share_among_patches"] == pytest.approx(figure["uniform_among_patches"], rel=1e-5)


def test_a_patch_moves_if_enough_of_its_pixels_do():
    [clip] = clips()
    moving = torch.zeros(3, 42, 56, dtype=torch.bool)
    moving[1, :14, :7] = True  # half of the first patch
    clip = changed(clip, moving=moving)

    assert clip.moving_patches(14, 0.5).nonzero().tolist() == [[1, 0, 0]]
    assert not clip.moving_patches(14, 0.51).any()


# The study


@pytest.mark.slow
def test_nothing_hidden_is_the_network_as_it_is():
    model, [clip] = small_network(), clips()
    result, _ = study_clip(model, clip, MaskStudy())
    with torch.no_grad():
        for setting, strength in ((PLAIN, 0.0), ("mask on, hidden from none", 1.0)):
            output = model(clip.pixel_values[None], mask_strength=strength)
            depth = depth_figures(
                output.depth[0, ..., 0].double().numpy(), clip.depth.double().numpy(), clip.moving.numpy()
            )
            assert {name: result.figures[setting][name] for name in depth} == depth


def test_every_way_to_hide_changes_what_comes_out():
    result, picture = study_clip(small_network(), clips()[0], MaskStudy())

    assert list(result.figures) == [
        PLAIN,
        "mask off, hidden from both",
        "mask off, hidden from cameras",
        "mask off, hidden from patches",
        "mask on, hidden from none",
    ]
    assert len({figures["rotation_error"] for figures in result.figures.values()}) == 5
    assert {mask: len(layers) for mask, layers in result.attention.items()} == {"off": NUM_LAYERS, "on": NUM_LAYERS}
    assert picture.motion.shape == (3, 42, 56)
    assert picture.looked_at["on"][NUM_LAYERS - 1].shape == (3, 3, 4)


@pytest.mark.slow
def test_patches_can_be_hidden_in_some_layers_alone():
    model, [clip] = small_network(), clips()
    hidden = {}
    for layers in (None, (0, 1, 2, 3, 4), (4,)):
        result, _ = study_clip(model, clip, MaskStudy(("both",), layers=layers))
        hidden[layers] = result.figures["mask off, hidden from both"]

    assert hidden[None] == hidden[0, 1, 2, 3, 4]
    assert hidden[None] != hidden[(4,)]


def test_a_network_without_a_mask_is_studied_without_it():
    result, picture = study_clip(small_network(mask_form=None), clips()[0], MaskStudy())

    assert all(setting.startswith("mask off") for setting in result.figures)
    assert list(result.attention) == ["off"]
    assert picture.motion is None


def test_clips_that_can_not_be_compared_are_excluded_by_name():
    [clip] = clips()
    still = changed(clip, name="still", moving=torch.zeros_like(clip.moving))
    all_moving = changed(clip, name="all-moving", moving=torch.ones_like(clip.moving))
    unknown = changed(clip, name="unknown", depth=clip.depth * ~clip.moving)
    broken = small_network()
    torch.nn.init.constant_(broken.depth_head.output_conv3.bias, torch.nan)

    results = [result for result, _ in study_clips(small_network(), [still, all_moving, unknown], MaskStudy())]
    results += [result for result, _ in study_clips(broken, [clip], MaskStudy())]
    unread = ClipResult("market", {}, excluded="market has no motion mask.")
    results += [result for result, _ in study_clips(broken, [unread], MaskStudy())]
    reasons = ["no patch moves", "all patches move", "no moving pixel has known depth", "not finite", "no motion mask"]
    for result, reason in zip(results, reasons, strict=True):
        assert reason in result.excluded
        assert result.name in result.excluded
        assert not result.figures
    with pytest.raises(EvaluationError, match="None of the 5 clips can be studied: still: no patch moves"):
        summarise(results)


def test_a_clip_without_a_path_counts_for_depth_alone():
    model, [clip] = small_network(), clips(frames=2)
    result, _ = study_clip(model, clip, MaskStudy(("both",)))
    summary = summarise([result])

    assert "ate" not in result.figures[PLAIN]
    assert summary["counts"]["without_pose_figures"] == 1
    assert "2 poses" in result.notes[0]


def test_means_are_over_clips_and_changes_are_of_the_same_clip():
    hidden = "mask off, hidden from both"
    layer = {
        queries: dict.fromkeys(("share", "uniform", "share_among_patches", "uniform_among_patches"), 0.1)
        for queries in LOOKING
    }
    counts = {"frames": 3, "frames_left_out": 1, "patches": 4, "moving_patches": 1}
    figures = {"abs_error_static": 1.0, "abs_error_dynamic": 2.0}
    results = [
        ClipResult(
            str(place),
            counts,
            {PLAIN: figures | {"ate": plain}, hidden: figures | {"ate": plain + change}},
            {"off": [layer]},
        )
        for place, (plain, change) in enumerate(((1.0, 0.1), (5.0, 0.3)))
    ]
    summary = summarise([*results, ClipResult("left-out", counts, excluded="left-out: why")])

    ate = summary["means"][hidden]["ate"]
    assert ate == pytest.approx({"mean": 3.2, "clips": 2, "change": 0.2, "standard_error": 0.1})
    assert summary["dynamic_excess"][PLAIN] == pytest.approx(1)
    assert summary["counts"]["clips"] == 2
    assert summary["counts"]["excluded"] == 1
    assert summary["counts"]["frames_left_out"] == 2
    assert summary["attention"]["off"][0]["camera"]["relative"] == pytest.approx(1)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan")])
def test_a_share_of_pixels_out_of_range_is_refused(share):
    with pytest.raises(EvaluationError, match="least share"):
        MaskStudy(min_share=share)


def test_queries_that_are_not_there_are_refused():
    with pytest.raises(EvaluationError, match="none, both, cameras, patches, not registers"):
        MaskStudy(("registers",))


def test_a_network_without_cameras_is_refused():
    with pytest.raises(EvaluationError, match="camera head"):
        study_clip(small_network(enable_camera=False), clips()[0], MaskStudy())


# Clips of sequences


def test_a_map_is_taken_at_the_centres_of_the_networks_pixels():
    values = np.arange(12.0).reshape(3, 4)

    assert np.array_equal(at_network_pixels(values, [0, 0, 4, 3], (3, 4)), values)
    assert np.array_equal(at_network_pixels(values, [0, 0, 2, 1], (1, 2)), [[5, 7]])  # the centre of an area: the later
    padded = at_network_pixels(values, [1, 0, 5, 3], (3, 6))
    assert np.array_equal(padded, np.pad(values, ((0, 0), (1, 1))))


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "capture"
    write_synthetic_capture(folder, num_frames=4, width=56, height=42, supersampling=1, num_points=100)
    return read_capture(folder)


@pytest.mark.parametrize("mode", ["crop", "balanced", "pad"])
def test_a_sequence_becomes_a_clip_at_the_networks_size_without_padding(capture, mode):
    frames = as_pinhole(capture.select([0, 1, 2]))
    clip = clip_of_sequence(EvaluatedSequence("room", frames), Page4DImageProcessor(mode=mode), 56, 14)

    assert clip.pixel_values.shape == (3, 3, 42, 56)
    assert np.array_equal(clip.moving.numpy(), np.stack([frames.load_motion_mask(i) for i in range(3)]))
    assert np.array_equal(clip.depth.numpy(), np.stack([frames.load_depth(i) for i in range(3)]))
    assert np.array_equal(clip.extrinsics, capture.extrinsics[:3])


def test_frames_without_a_mask_are_left_out_and_counted(capture):
    chosen = capture.select([0, 1, 2])
    chosen.motion_mask_paths[1] = None
    clip = clip_of_sequence(EvaluatedSequence("room", as_pinhole(chosen)), Page4DImageProcessor(mode="crop"), 56, 14)
    whole = clip_of_sequence(
        EvaluatedSequence("room", as_pinhole(capture.select([0, 2]))), Page4DImageProcessor(), 56, 14
    )

    assert clip.frames_left_out == 1
    for name in ("pixel_values", "depth", "moving"):
        assert torch.equal(getattr(clip, name), getattr(whole, name))
    assert np.array_equal(clip.extrinsics, capture.extrinsics[[0, 2]])


def test_a_sequence_without_masks_is_excluded(capture):
    chosen = capture.select([0, 1])
    chosen.motion_mask_paths[:] = [None, None]

    with pytest.raises(ExclusionError, match="room has no motion mask of any of its 2 frames"):
        clip_of_sequence(EvaluatedSequence("room", as_pinhole(chosen)), Page4DImageProcessor(), 56, 14)


# The program


@pytest.mark.slow
def test_the_program_writes_the_same_numbers_twice_and_all_pictures(tmp_path: Path, tiny_model: Path, capsys):
    words = ["--model", str(tiny_model), "--synthetic.clips", "2", "--synthetic.frames", "3"]
    words += ["--synthetic.image-size", "42", "56", "--synthetic.scenes.moving-share", "1", "--pictures", "1"]
    for name in ("first", "second"):
        program.main([*words, "--output", str(tmp_path / name)])

    files = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert files.pop(MANIFEST)
    assert sorted(files) == ["attention.png", "errors.png", "picture-synthetic-1000000.png", "study.json", "study.md"]
    for name in ("study.json", "study.md"):
        assert (tmp_path / "second" / name).read_bytes() == files[name]
    record = json.loads(files["study.json"])
    assert record["counts"]["clips"] + record["counts"]["excluded"] == 2
    assert "mask on, hidden from none" in files["study.md"].decode()
    assert "What the mask does" in capsys.readouterr().out


@pytest.mark.slow
def test_the_mask_of_a_network_acts_as_strongly_as_its_configuration_says(monkeypatch):
    def strengths(configured: float) -> set[float]:
        model, used = small_network(mask_strength=configured), set()
        forward = model.forward
        monkeypatch.setattr(
            model, "forward", lambda *args, **kwargs: used.add(kwargs["mask_strength"]) or forward(*args, **kwargs)
        )
        study_clip(model, clips()[0], MaskStudy())
        return used

    assert strengths(0.25) == {0.0, 0.25}
    assert strengths(0.0) == {0.0}


@pytest.mark.slow
def test_a_study_of_some_sequences_says_so(tmp_path: Path, tiny_model: Path):
    for name in ("one", "other"):
        write_synthetic_capture(tmp_path / "rooms" / name, num_frames=3, width=56, height=42, supersampling=1)
    words = ["--model", str(tiny_model), "--dataset", "nerfies", "--data-root", str(tmp_path / "rooms")]
    words += ["--sequences", "one/0", "--study.min-share", "0.01", "--resolution", "56", "--pictures", "0"]
    program.main([*words, "--output", str(tmp_path / "study")])

    protocol = json.loads((tmp_path / "study" / "study.json").read_text())["protocol"]
    assert "nerfies: 1 sequence, " in protocol
    assert "no published figures are of it" in protocol


@pytest.mark.slow
def test_a_network_without_register_tokens_has_no_attention_of_theirs(tmp_path: Path):
    small_network(num_register_tokens=0).save_pretrained(tmp_path / "model")
    words = ["--model", str(tmp_path / "model"), "--synthetic.clips", "1", "--synthetic.frames", "3", "--pictures", "0"]
    program.main([*words, "--synthetic.image-size", "42", "56", "--output", str(tmp_path / "study")])

    table = (tmp_path / "study" / "study.md").read_text()
    assert "camera tokens, mask on" in table
    assert "register tokens, mask" not in table


def test_an_output_that_is_in_the_way_is_named_before_anything_runs(tmp_path: Path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        program.main(["--model", "nowhere", "--output", str(tmp_path)])

    assert ended.value.code == 1
    assert "is not empty" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_resolution_is_refused_for_synthetic_clips_which_have_a_size(tmp_path: Path, capsys):
    with pytest.raises(SystemExit):
        program.main(["--model", "nowhere", "--resolution", "28", "--output", str(tmp_path / "study")])

    assert "--synthetic.image-size" in capsys.readouterr().err


@pytest.mark.slow
def test_a_data_set_without_its_folder_is_asked_for(tmp_path: Path, tiny_model: Path, capsys):
    with pytest.raises(SystemExit):
        program.main(["--model", str(tiny_model), "--dataset", "sintel", "--output", str(tmp_path / "study")])

    assert "--data-root" in capsys.readouterr().err
