"""Frames per second and peak memory of a network over numbers of frames, as published tables have them.

    python evaluation/benchmark.py --device cuda --dtype bfloat16 --output benchmark
    python evaluation/benchmark.py --model page4d --kitti kitti_raw --frames 10 20

Every number of frames has a process of its own, so that its peak memory is its own. Numbers go up until the memory or
the patience (`--max-seconds`) ends. By default the published network with random weights: neither time nor memory
depends on what they are.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil
import torch
import tyro
from evaluator.reporting.formats import NOTHING, markdown_table
from pydantic_core import to_jsonable_python

from page4d_hf.errors import Page4DError
from page4d_hf.utils.folders import check_output_file, whole_file
from page4d_hf.utils.measuring import device_name, memory_ran_out, peak_memory, timed
from page4d_hf.utils.programs import counted, first_line, input_errors_end_the_program

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from page4d_hf import Page4DModel

GIB = 2**30
PUBLISHED_ASPECT = 336 / 518  # of the images in published tables
MOST_FRAMES = 1_000_000
MOST_SECONDS = 1_000_000
OWN_MEMORY_SHARE = 0.9  # of what the CPU's memory has to give


@dataclass
class BenchmarkOptions:
    """Options of the benchmark."""

    model: str | None = None
    """A folder for from_pretrained, or a name on the Hub; by default the published network with random weights."""
    frames: tuple[int, ...] = (1, 2, 4, 8, 10, 20, 50, 100, 200)
    """Numbers of frames, which go through the network at once."""
    image_size: tuple[int, int] | None = None
    """Height and width of the network's input in pixels, filled with noise; of no effect with --images or --kitti. By
    default as --resolution is wide, and about 336/518 as high, as in published tables."""
    images: str | None = None
    """Take real frames, of a folder, a glob or a video, instead of noise: their aspect ratio decides on the height."""
    kitti: Path | None = None
    """Or: take the frames of a video of KITTI; the folder of its raw data or of its odometry benchmark."""
    drive: str | None = None
    """Which video of KITTI, such as 2011_09_26_drive_0002_sync or 00; by default the first."""
    resolution: int | None = None
    """Width of the network's input in pixels. By default what the model's image processor says."""
    repeats: int = 5
    """Measured forward passes; one more goes ahead of them."""
    device: str = "auto"
    """Where to run: cuda, cpu, or whichever there is."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the encoder and the aggregator; the heads are in float32 always."""
    attention: str | None = None
    """Attention implementation of transformers, such as sdpa or eager; by default the model's own."""
    mask: Literal["on", "off", "both"] = "on"
    """Whether the mask acts; off is VGGT. both: a pass of each in turn, so that whatever else the machine does falls on
    both alike, and what the mask costs."""
    points: bool = True
    """Whether the point head runs too; depth and cameras always do."""
    threads: int = 0
    """Threads of PyTorch on the CPU; 0 leaves PyTorch's default."""
    max_seconds: float = 600.0
    """The most that one number of frames may take, loading and all passes together; larger numbers are not tried."""
    output: Path | None = None
    """Write OUTPUT.json and OUTPUT.md too."""
    overwrite: bool = False
    """Replace these."""

    def __post_init__(self) -> None:
        if self.images is not None and self.kitti is not None:
            raise Page4DError("Give --images or --kitti, not both.")
        if self.drive is not None and self.kitti is None:
            raise Page4DError("--drive names a video of --kitti, which is not given.")


@dataclass
class Row:
    """Figures of one number of frames, or why there are none."""

    frames: int
    seconds: list[float] | None = None  # of every measured pass
    peak: int | None = None  # bytes, weights included
    facts: dict[str, Any] | None = None  # image size, dtype, attention implementation, as they were
    failed: str | None = None
    without_mask: list[float] | None = None  # with --mask both: seconds of every measured pass with the mask off

    @property
    def median(self) -> float:
        """Seconds of a pass."""
        return statistics.median(self.seconds or [float("nan")])


def measure(frames: int, options: BenchmarkOptions) -> Row:
    """Time one number of frames in this process.

    Raises:
        Page4DError: no such model, images or option; or fewer images than frames.
        torch.OutOfMemoryError, MemoryError, RuntimeError: the memory does not hold it.
    """
    from page4d_hf import Page4DConfig, Page4DImageProcessor, Page4DModel
    from page4d_hf.weights.loading import load_model, resolve_device, resolve_dtype

    if options.threads:
        torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device)
    if options.model is None:
        with torch.device(device):
            model, processor = Page4DModel(Page4DConfig()).eval().to(dtype), Page4DImageProcessor()
    else:
        model, processor = load_model(options.model, device=device, dtype=dtype)
    if options.attention is not None:
        try:
            model.set_attn_implementation(options.attention)
        except (ValueError, ImportError) as error:
            raise Page4DError(f"The attention implementation {options.attention!r} is unavailable: {error}") from error
    if not options.points:
        model.point_head = None
    pixel_values = _pixel_values(frames, options, processor, model.config.patch_size).to(device)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # of loading and of the change of dtype

    masked = model.config.mask_form is not None
    strengths = {"on": (1.0,), "off": (0.0,), "both": (0.0, 1.0)}[options.mask] if masked else (0.0,)
    times = time_in_turns(model, pixel_values, strengths, 1 + options.repeats)
    seconds = [of_strength[1:] for of_strength in times]
    facts = {
        "image_size": list(pixel_values.shape[-2:]),
        "dtype": str(dtype).removeprefix("torch."),
        "attention": model.config._attn_implementation,
        "mask": {"both": "off and on in turn"}.get(options.mask, options.mask) if masked else "none in this model",
        "points": model.point_head is not None,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "weights_bytes": sum(weight.nbytes for weight in model.state_dict().values()),
        "device": device.type,
        "device_name": device_name(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "torch": torch.__version__,
    }
    without = seconds[0] if len(seconds) > 1 else None
    return Row(frames, seconds[-1], peak_memory(device), facts, without_mask=without)


def time_in_turns(
    model: Page4DModel, pixel_values: torch.Tensor, strengths: Sequence[float], rounds: int
) -> list[list[float]]:
    """Seconds of forward passes of `pixel_values` [1, S, 3, H, W] with masks of some strengths, in turn."""
    times: list[list[float]] = [[] for _ in strengths]
    with torch.inference_mode():
        for _ in range(rounds):
            for strength, seconds in zip(strengths, times, strict=True):
                seconds.append(timed(partial(model, pixel_values, mask_strength=strength), pixel_values.device))
    return times


def _pixel_values(frames: int, options: BenchmarkOptions, processor: Any, patch_size: int) -> torch.Tensor:
    """`[1, S, 3, H, W]`."""
    from page4d_hf.reconstruction.network import resolve_resolution

    if options.images is None and options.kitti is None:
        size = options.image_size
        if size is None:
            width = resolve_resolution(options.resolution, processor, patch_size)
            size = max(patch_size, patch_size * round(width * PUBLISHED_ASPECT / patch_size)), width
        return torch.rand(1, frames, 3, *size, generator=torch.Generator().manual_seed(0))
    from page4d_hf.frames import read_frames

    resolution = resolve_resolution(options.resolution, processor, patch_size)
    if options.kitti is not None:
        from evaluator.kitti import kitti_images

        images = read_frames(kitti_images(options.kitti, options.drive)[:frames]).images
    else:
        assert options.images is not None
        images = read_frames(options.images, max_frames=frames).images
    if len(images) < frames:
        source = options.images or options.kitti
        raise Page4DError(f"{source} has {len(images)} frames, not {frames}; leave the larger --frames out.")
    # As frames are evaluated: padding would count as time.
    features = processor.preprocess(
        list(images), size=resolution, patch_size=patch_size, mode="crop", return_tensors="pt"
    )
    return features["pixel_values"]


def measure_apart(frames: int, options: BenchmarkOptions) -> Row:
    """Time one number of frames in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_and_send, args=(frames, options, sender), daemon=True)
    process.start()
    sender.close()  # so that the pipe ends when the process does
    try:
        if not receiver.poll(options.max_seconds):
            return Row(frames, failed=f"took more than {options.max_seconds:g} seconds")
        found = receiver.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        if code < 0:
            return Row(frames, failed=f"killed by signal {-code}, perhaps for want of memory")
        raise Page4DError(f"The process that timed {frames} frames ended with exit code {code}.") from None
    finally:
        process.kill()
        process.join()
    if isinstance(found, Page4DError):
        raise found
    return found


def _measure_and_send(frames: int, options: BenchmarkOptions, sender: Connection) -> None:
    try:
        sender.send(measure_here(frames, options))
    except Page4DError as error:
        sender.send(error)


def measure_here(frames: int, options: BenchmarkOptions) -> Row:
    """Time one number of frames in this process; if the memory does not hold it, say so."""
    _limit_memory(options.device)
    try:
        return measure(frames, options)
    except (RuntimeError, MemoryError) as error:
        if not memory_ran_out(error):
            raise
        return Row(frames, failed=f"out of memory: {first_line(error)}")


def _limit_memory(device: str) -> None:
    """On a CPU, fail when the memory is used up, before the system ends this process or others."""
    from page4d_hf.weights.loading import resolve_device

    if resolve_device(device).type == "cpu":
        limit = int(OWN_MEMORY_SHARE * psutil.virtual_memory().available)
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


def markdown(rows: Sequence[Row], options: BenchmarkOptions) -> str:
    """The table, and underneath what its figures depend on."""
    head = ["frames", *(["mask off", "mask costs"] if options.mask == "both" else []), "seconds"]
    head += ["frames per second", "peak memory"]
    cells = []
    for row in rows:
        if row.failed is not None or row.peak is None or row.seconds is None:
            cells.append([str(row.frames), *[NOTHING] * (len(head) - 2), str(row.failed)])
            continue
        compared = [NOTHING] * (len(head) - 4)
        if row.without_mask is not None:
            costs = statistics.median(on / off - 1 for off, on in zip(row.without_mask, row.seconds, strict=True))
            compared = [f"{statistics.median(row.without_mask):.3g}", f"{costs:+.1%}"]
        speed = row.frames / row.median
        cells.append([str(row.frames), *compared, f"{row.median:.3g}", f"{speed:.3g}", f"{row.peak / GIB:.2f} GiB"])
    lines = [markdown_table(head, cells, labels=0)]
    facts = next((row.facts for row in rows if row.facts is not None), None)
    if facts is not None:
        height, width = facts["image_size"]
        source = "noise" if options.images is None else "real frames"
        if options.kitti is not None:
            source = f"KITTI, {options.drive or 'its first drive'}"
        threads = f", {counted(facts['threads'], 'thread')}" if facts["threads"] else ""
        memory = (
            "what PyTorch had allocated on the GPU"
            if facts["device"] == "cuda"
            else "the whole process's, libraries too"
        )
        lines += [
            "",
            f"{facts['device_name']}{threads}; {width}x{height} pixels ({source}); {facts['dtype']}, heads in "
            f"float32; attention {facts['attention']}; mask {facts['mask']}; "
            f"{'with' if facts['points'] else 'without'} the point head; {facts['parameters']:,} parameters "
            f"({options.model or 'random weights'}), {facts['weights_bytes'] / GIB:.2f} GiB; torch {facts['torch']}.",
            f"Median of {options.repeats} forward passes, all frames at once, images already on the device. Peak "
            f"memory: {memory}, weights included.",
        ]
    return "\n".join(lines) + "\n"


def run(options: BenchmarkOptions) -> list[Row]:
    """Time all numbers of frames, from few to many, print and write the table."""
    if not options.frames or min(options.frames) < 1 or max(options.frames) > MOST_FRAMES:
        raise Page4DError(f"--frames must name numbers from 1 to {MOST_FRAMES:,}, got {list(options.frames)}.")
    if options.repeats < 1 or not 0 < options.max_seconds <= MOST_SECONDS:
        raise Page4DError(f"--repeats must be positive, and --max-seconds positive and at most {MOST_SECONDS:,}.")
    outputs = {}
    if options.output is not None:
        outputs = {name: options.output.with_name(f"{options.output.name}.{name}") for name in ("json", "md")}
        for path in outputs.values():
            check_output_file(path, overwrite=options.overwrite)
    rows: list[Row] = []
    for frames in sorted(set(options.frames)):
        ended = next((row for row in rows if row.failed is not None), None)
        if ended is not None:
            row = Row(frames, failed=f"not tried after {ended.frames}")
        else:
            try:
                row = measure_apart(frames, options)
            except Page4DError as error:
                if not rows:  # wrong whatever the number of frames
                    raise
                row = Row(frames, failed=str(error))
        rows.append(row)
        words = row.failed or f"{row.median:.3g} s, {(row.peak or 0) / GIB:.2f} GiB"
        print(f"{frames} frames: {words}", file=sys.stderr, flush=True)
    table = markdown(rows, options)
    print(table)
    record = {
        "options": to_jsonable_python(options, exclude={"output", "overwrite"}),
        "rows": [asdict(row) for row in rows],
    }
    for name, text in (("json", json.dumps(record, indent=1)), ("md", table)):
        if name in outputs:
            with whole_file(outputs[name], overwrite=options.overwrite) as partial:
                partial.write_text(text, "utf8")
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors about the input are one sentence on stderr and exit code 1."""
    with input_errors_end_the_program("benchmark"):
        run(tyro.cli(BenchmarkOptions, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
