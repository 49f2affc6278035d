"""Images and motion masks as nerfstudio gets them."""

import json
import pickle

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from perfect_page4d import dataset_of, outputs_of
from PIL import Image
from small_captures import SIZE, write_capture
from small_layouts import HEIGHT, WIDTH, write_nerfstudio

from page4d_hf.captures import as_pinhole, read_capture
from page4d_nerfstudio.data.datamanager import Page4DDatamanagerConfig
from page4d_nerfstudio.data.dataparser import Page4DDataParserConfig
from page4d_nerfstudio.data.dataset import Page4DDataset


def test_without_distortion_images_are_those_on_disk(capture):
    dataset = dataset_of(capture)
    assert len(dataset) == 7
    for i, path in enumerate(dataset.image_filenames):
        np.testing.assert_array_equal(dataset.get_data(i, "uint8")["image"], np.array(Image.open(path)))


def test_masks_on_the_gpu_are_no_business_of_the_next_dataset(capture):
    """`ns-render dataset` makes two."""
    parser = Page4DDataParserConfig(data=capture)
    for _ in range(2):
        manager = Page4DDatamanagerConfig(dataparser=parser, masks_on_gpu=True).setup(device="cpu", test_mode="test")
        assert "mask" not in manager.exclude_batch_keys_from_device
    assert "mask" in InputDataset.exclude_batch_keys_from_device


def test_images_are_undistorted(tmp_path):
    capture = write_capture(tmp_path / "capture", distortion=(0.2, 0.0, 0.0))
    frames = as_pinhole(read_capture(capture))
    image = dataset_of(capture, "val").get_data(0, "uint8")["image"]
    np.testing.assert_array_equal(image, frames.load_image(3))
    assert (image.numpy() != np.array(Image.open(capture / "rgb/1x/000003.png"))).any()


@pytest.mark.parametrize(("downscale", "scale_factor"), [(None, 0.5), (2, 1.0), (2, 0.5), (3, 1.0), (None, 0.37)])
def test_images_masks_and_cameras_have_one_size(tmp_path, downscale, scale_factor):
    capture = write_capture(tmp_path / "capture", size=(41, 33), masks=True)
    dataset = dataset_of(capture, scale_factor=scale_factor, downscale_factor=downscale)
    for i in range(len(dataset)):
        camera, batch = dataset.cameras[i], dataset.get_data(i)
        size = (int(camera.height), int(camera.width))
        assert tuple(batch["image"].shape) == (*size, 3)
        assert tuple(batch["motion_mask"].shape) == (*size, 1)


def test_scaling_by_either_option_keeps_the_mean_colour(capture):
    full, by_factor, by_scale = (
        dataset_of(capture, **options).get_data(0)["image"].mean(dim=(0, 1))
        for options in ({}, {"downscale_factor": 2}, {"scale_factor": 0.5})
    )
    torch.testing.assert_close(by_factor, full, atol=2e-3, rtol=0)
    torch.testing.assert_close(by_scale, full, atol=2e-3, rtol=0)


def test_motion_masks_are_true_where_something_moves(tmp_path):
    capture = write_capture(tmp_path / "capture", masks=True)
    mask = dataset_of(capture, "val").get_data(0)["motion_mask"]
    assert mask.dtype == torch.bool
    expected = torch.zeros(SIZE[1], SIZE[0], 1, dtype=torch.bool)
    expected[: SIZE[1] // 2, 3:13] = True
    assert torch.equal(mask, expected)


def make_dycheck(capture):
    """Give a small capture DyCheck's splits, and maps of what is covisible of its held-out frame: its left half."""
    ids = json.loads((capture / "dataset.json").read_text())
    for split in ("train", "val"):
        names = ids[f"{split}_ids"]
        listed = {"frame_names": names, "time_ids": [int(name) for name in names], "camera_ids": [0] * len(names)}
        (capture / "splits").mkdir(exist_ok=True)
        (capture / f"splits/{split}.json").write_text(json.dumps(listed))
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[:, : SIZE[0] // 2] = 255
    (capture / "covisible/1x/val").mkdir(parents=True)
    Image.fromarray(mask).save(capture / "covisible/1x/val/000003.png")
    return capture


def test_held_out_frames_of_dycheck_say_what_is_covisible(capture):
    capture = make_dycheck(capture)
    mask = dataset_of(capture, "val").get_data(0)["covisible_mask"]
    assert (tuple(mask.shape), mask.dtype) == ((*SIZE[::-1], 1), torch.bool)
    assert mask[:, : SIZE[0] // 2].all()
    assert not mask[:, SIZE[0] // 2 :].any()
    assert "covisible_mask" not in dataset_of(capture).get_data(0)
    assert tuple(dataset_of(capture, "val", scale_factor=0.5).get_data(0)["covisible_mask"].shape) == (15, 20, 1)


def test_transparency_is_kept_for_the_model_to_composite(capture):
    for path in (capture / "rgb/1x").iterdir():
        image = Image.open(path)
        image.putalpha(128)
        image.save(path)
    image = dataset_of(capture).get_data(0)["image"]
    assert image.shape[-1] == 4
    torch.testing.assert_close(image[..., 3], torch.full_like(image[..., 3], 128 / 255))


def test_a_scaled_image_has_no_dark_rim_where_it_is_transparent(capture):
    pixels = np.full((*SIZE[::-1], 4), 200, np.uint8)
    pixels[:, :21] = 0  # the new pixels' column 10 is half transparent
    for path in (capture / "rgb/1x").iterdir():
        Image.fromarray(pixels).save(path)

    image = dataset_of(capture, scale_factor=0.5).get_data(0, "uint8")["image"]

    assert image[0, 10].tolist() == [200, 200, 200, 100]
    assert torch.equal(dataset_of(capture).get_data(0, "uint8")["image"], torch.from_numpy(pixels))


def test_the_model_is_not_handed_the_reader_of_images(tmp_path):
    """The metadata go to the model; nerfstudio copies them deeply for every dataset, and workers pickle datasets."""
    dataset = dataset_of(write_capture(tmp_path / "capture", masks=True))
    assert all(isinstance(value, torch.Tensor) for value in dataset.metadata.values())
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again.get_data(1)["image"], dataset.get_data(1)["image"])


def test_what_another_dataparser_gives_is_read_as_nerfstudio_reads_it(capture):
    frame = {
        "fl_x": 44, "fl_y": 44, "cx": 20, "cy": 15, "w": SIZE[0], "h": SIZE[1],
        "transform_matrix": np.eye(4).tolist(),
    }  # fmt: skip
    frames = [{"file_path": f"rgb/1x/{i:06d}.png", **frame} for i in range(8)]
    (capture / "transforms.json").write_text(json.dumps({"frames": frames}))
    parser = NerfstudioDataParserConfig(data=capture, auto_scale_poses=False, downscale_factor=1).setup()
    outputs = parser.get_dataparser_outputs("train")
    ours, theirs = Page4DDataset(outputs, 0.5), InputDataset(outputs, 0.5)
    assert torch.equal(ours.get_data(1)["image"], theirs.get_data(1)["image"])


@pytest.mark.parametrize(("lens", "downscale"), [((0.1, 0.0, 0.0), None), ((0.0, 0.0, 0.0), 2)])
def test_images_that_only_this_dataset_fits_to_their_cameras_are_refused_to_others(tmp_path, lens, downscale, capsys):
    capture = write_capture(tmp_path / "capture", distortion=lens)
    outputs = outputs_of(capture, downscale_factor=downscale)

    assert len(Page4DDataset(outputs)) == 7
    with pytest.raises(SystemExit) as exit_info:
        InputDataset(outputs)
    assert exit_info.value.code == 1
    assert "would have to undistort or scale these images" in capsys.readouterr().out


def test_images_whose_alpha_is_no_transparency_are_refused_to_others(capture, capsys):
    capture = make_dycheck(capture)
    for path in (capture / "rgb/1x").iterdir():
        with Image.open(path) as image:
            lidar = image.convert("RGBA")
        lidar.putalpha(0)
        lidar.save(path)
    outputs = outputs_of(capture)

    assert Page4DDataset(outputs)[0]["image"].shape[-1] == 3
    with pytest.raises(SystemExit):
        InputDataset(outputs)
    assert "an alpha channel that is no transparency" in " ".join(capsys.readouterr().out.split())


def test_images_that_are_as_their_files_can_be_read_by_any_dataset(capture):
    outputs = outputs_of(capture)

    assert torch.equal(InputDataset(outputs)[2]["image"], Page4DDataset(outputs)[2]["image"])


@pytest.mark.parametrize("cache", ["cpu", "gpu"])
def test_the_datamanager_caches_images_where_there_is_no_gpu(tmp_path, cache):
    capture = write_capture(tmp_path / "capture", distortion=(0.1, 0.0, 0.0), masks=True)
    config = Page4DDatamanagerConfig(data=capture, dataparser=Page4DDataParserConfig(), cache_images=cache)
    manager = config.setup(device="cpu", test_mode="test")
    frames = as_pinhole(read_capture(capture))
    seen = set()
    for step in range(7):
        camera, batch = manager.next_train(step)
        index = round(7 * camera.times.item())
        seen.add(index)
        np.testing.assert_array_equal((batch["image"] * 255).round(), frames.load_image(index))
        np.testing.assert_array_equal(batch["motion_mask"][..., 0], frames.load_motion_mask(index))
    assert seen == {0, 1, 2, 4, 5, 6, 7}
    ((camera, batch),) = manager.fixed_indices_eval_dataloader
    assert round(7 * camera.times.item()) == 3
    assert batch["motion_mask"].any()


def test_some_training_views_are_spread_evenly_over_time(tmp_path):
    capture = write_capture(tmp_path / "capture", frames=13, val=(0,))  # trained on: instants 1 to 12
    manager = Page4DDatamanagerConfig(data=capture, dataparser=Page4DDataParserConfig()).setup(device="cpu")
    views = list(manager.training_views(4))
    assert [round(12 * camera.times.item()) for camera, _ in views] == [2, 5, 8, 11]
    assert "cached_train" not in manager.__dict__  # only these were read
    frames = as_pinhole(read_capture(capture))
    for camera, batch in views:
        expected = frames.load_image(round(12 * camera.times.item()))
        np.testing.assert_array_equal((batch["image"] * 255).round(), expected)
        assert manager.train_dataset.cameras[camera.metadata["cam_idx"]].times == camera.times
    assert len(list(manager.training_views(100))) == 12


def test_camera_paths_are_kept_beside_the_images_of_a_glob(tmp_path, capture):
    config = Page4DDatamanagerConfig(dataparser=Page4DDataParserConfig(data=capture))
    manager = config.setup(device="cpu", test_mode="test")
    assert manager.get_datapath() == tmp_path / "capture"
    manager.config.dataparser.data = tmp_path / "capture/rgb/*x/[0-9]*.png"
    assert manager.get_datapath() == tmp_path / "capture/rgb"


def test_images_of_one_instant_count_as_one(tmp_path):
    capture = write_capture(tmp_path / "capture", val=(7,))
    metadata = json.loads((capture / "metadata.json").read_text())
    for index, name in enumerate(sorted(metadata)):  # pairs of images share a time, as those of two cameras do
        metadata[name]["warp_id"] = index // 2
    (capture / "metadata.json").write_text(json.dumps(metadata))

    dataset = dataset_of(capture)

    assert dataset.metadata["instants"] == len({float(time) for time in dataset.cameras.times}) < len(dataset)


def masked_outputs(root, unmasked=()):
    """Frames 0 to 3 to train on, with a mask that leaves out their left part, save some of them."""
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:, :7] = 0
    meta = json.loads((write_nerfstudio(root, mask=mask) / "transforms.json").read_text())
    for i in unmasked:
        del meta["frames"][i]["mask_path"]
    (root / "transforms.json").write_text(json.dumps(meta))
    return outputs_of(root, points="random")


def test_any_dataset_gets_the_masks_of_a_capture(tmp_path):
    outputs = masked_outputs(tmp_path / "masked")
    theirs, ours = InputDataset(outputs)[1]["mask"], Page4DDataset(outputs)[1]["mask"]
    assert torch.equal(theirs, ours)
    assert theirs[:, 7:].all()
    assert not theirs[:, :7].any()


def test_without_masks_no_dataset_gets_any(tmp_path):
    outputs = masked_outputs(tmp_path / "unmasked", unmasked=range(4))
    assert "mask" not in InputDataset(outputs)[1]


def test_masks_of_some_images_alone_are_refused_to_others(tmp_path, capsys):
    outputs = masked_outputs(tmp_path / "partly", unmasked=[2])
    assert ["mask" in Page4DDataset(outputs)[i] for i in range(4)] == [True, True, False, True]
    with pytest.raises(SystemExit):
        InputDataset(outputs)
    assert "Only some of these images have a mask" in " ".join(capsys.readouterr().out.split())
