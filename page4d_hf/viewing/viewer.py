"""The viewer in the browser, by viser: cameras, points through time, and the pictures of a frame."""

from __future__ import annotations

import base64
import contextlib
import io
import math
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import Page4DError
from ..geometry import camera_centers
from ..scene.drawing import FRUSTUM_SHARE, camera_corners, frustum_depth, mean_axes, overview
from ..scene.folder import MOVES
from ..utils.evenly import evenly
from .display import TRACK, Display, Moving, Palette, Times
from .guarded_server import guard_servers
from .viewed_scene import Cloud, ViewedScene

if TYPE_CHECKING:
    import viser

PICTURE_WIDTH = 300  # pixels, of the panel
THUMBNAIL_WIDTH = 96
PICTURES = ("image", "depth", "motion")  # of a frame; those that are not known are empty
FRUSTUMS = 16  # besides those of the time that is shown, at most
GREY, CURRENT, PATH = (190, 190, 190), (255, 120, 0), (30, 100, 200)
DOTS, DOT_SHARE = 6, 0.03  # on a segment of a track, and their size by that of the frustums
BESIDE_PANEL = 0.75  # of the page's width: what the panel leaves when it opens, which the page tells too late
ABOVE_PANEL = 0.4  # of a window that is higher than wide, as on a phone: there the panel is at the bottom
POINT_SIZES = (0.1, 4.0)  # times the scene's own
TIMES_NAMES: dict[Times, str] = {"one": "one time", "all": "all times", "static": "static of all times"}


class Viewer:
    """A server for browsers; it answers until `stop`.

    Points are sent when they are first shown, those of each time once. `instant` is the place of the time to show at
    first; of `host` and `port` see `check_address`.
    """

    def __init__(self, scene: ViewedScene, display: Display, instant: int, host: str, port: int) -> None:
        self.scene, self.display, self.instant = scene, display, instant
        self.palette = Palette(scene)
        self.palette.check(display)
        self.server = _viser_server(host, port, scene.name)
        if self.server.get_port() != port:
            self.server.stop()
            raise Page4DError(f"Port {port} was taken by another program meanwhile; name a free one with --port.")
        self._lock = threading.RLock()
        self._clouds: dict[tuple[Moving, int | None], Any] = {}  # those that were sent
        self._current: list[Any] = []  # frustums of the time that is shown
        self._trails: Any = None  # of the tracks up to that time
        self._device = int(scene.camera_ids[scene.frames_at(instant)[0]])  # whose pictures are shown
        self._depth = frustum_depth(scene.extrinsics, scene.everything.points)
        self._ended = threading.Event()
        self.server.gui.configure_theme(show_logo=False, control_layout="collapsible")
        self.server.scene.set_up_direction(-mean_axes(scene.extrinsics)[1])
        self._add_controls()
        self._add_cameras()
        self.server.on_client_connect(self._look_from_behind)
        self.show()
        self._player = threading.Thread(target=self._play, daemon=True)
        self._player.start()

    def stop(self) -> None:
        """End the server."""
        self._ended.set()
        self._player.join()
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()

    # -----------------------------------------------------------------------------------------------------------
    # The panel

    def _add_controls(self) -> None:
        gui, scene, display = self.server.gui, self.scene, self.display
        last = len(scene.instants) - 1
        with gui.add_folder("Time"):
            self._time = gui.add_slider("Time", 0, max(last, 1), 1, self.instant, disabled=not last)
            self._playing = gui.add_checkbox("Play", False, disabled=not last)
            self._fps = gui.add_slider("Times a second", 1, 30, 1, 10, disabled=not last)
            names = [name for key, name in TIMES_NAMES.items() if key != "static" or self.palette.has_motion]
            self._times = gui.add_dropdown("Points of", names, TIMES_NAMES[display.times])
        with gui.add_folder("Points"):
            self._color = gui.add_dropdown("Colour", self.palette.colors(), display.color)
            self._size = gui.add_slider("Size", *POINT_SIZES, 0.1, 1.0)
            self._shown_size = 1.0
            # Elements are there or not: viser's page breaks where their visibility changes.
            self._confidence = self._moving = self._moves_from = None
            if len(self.palette.confidence):
                hint = "Share of all points that is hidden, the least confident first"
                self._confidence = gui.add_slider("Hide (%)", 0, 99, 1, round(display.least_confident), hint=hint)
            if self.palette.has_motion:
                hint = "Motion from which a point counts as moving"
                self._moving = gui.add_dropdown("Show", ["all", "static", "moving"], display.moving)
                self._moves_from = gui.add_slider("Moves from", 0.0, 1.0, 0.01, display.moves_from, hint=hint)
            self._tracks = None
            if scene.paths is not None:
                hint = "Where tracked points that move came from"
                self._tracks = gui.add_checkbox("Tracks", display.tracks, hint=hint)
        with gui.add_folder("Cameras"):
            self._frustums = gui.add_checkbox("Frustums", True, hint="Click on one to look through it")
            self._path = gui.add_checkbox("Path", True)
            through = gui.add_button("Look through", hint="Through the camera of the frame below")
            behind = gui.add_button("Look from behind", hint="At all cameras and points")
        with gui.add_folder("Frame"):
            self._told = gui.add_markdown("")
            self._pictures = {name: gui.add_markdown("", Path("/")) for name in PICTURES}

        self._time.on_update(lambda _: self._slide())
        for control in (self._times, self._color, self._size, self._confidence, self._moving, self._moves_from):
            if control is not None:
                control.on_update(lambda _: self._restart())
        if self._tracks is not None:
            self._tracks.on_update(lambda _: self.show())
        self._frustums.on_update(lambda _: self._show_cameras())
        self._path.on_update(lambda _: self._show_cameras())
        through.on_click(lambda event: self._look_through(event.client, self.frame))
        behind.on_click(lambda event: self._look_from_behind(event.client))

    # viser queues each change of a control: the first that is worked off shows the latest, and the others nothing.

    def _slide(self) -> None:
        """Show the time of the slider."""
        with self._lock:
            if int(self._time.value) != self.instant:
                self.show(int(self._time.value))

    def _restart(self) -> None:
        """Show the points anew, as the panel asks for them."""
        with self._lock:
            times: dict[str, Times] = {name: key for key, name in TIMES_NAMES.items()}
            shown = self.display, self._shown_size
            self._shown_size = float(self._size.value)
            self.display = replace(
                self.display,
                color=self._color.value,
                times=times[self._times.value],
                moving="all" if self._moving is None else cast("Moving", self._moving.value),
                moves_from=MOVES if self._moves_from is None else float(self._moves_from.value),
                least_confident=0 if self._confidence is None else float(self._confidence.value),
            )
            if shown == (self.display, self._shown_size):
                return
            for handle in self._clouds.values():
                handle.remove()
            self._clouds.clear()
            self.show()

    def _play(self) -> None:
        while not self._ended.wait(1 / float(self._fps.value)):
            if self._playing.value:
                with self._lock:
                    self.show((self.instant + 1) % len(self.scene.instants))  # here: playing is no faster than showing
                    self._time.value = self.instant

    # -----------------------------------------------------------------------------------------------------------
    # The scene

    @property
    def frame(self) -> int:
        """The frame whose pictures are shown: at the time that is shown, of the device that was looked through last."""
        frames = self.scene.frames_at(self.instant)
        of_device = frames[self.scene.camera_ids[frames] == self._device]
        return int(of_device[0] if len(of_device) else frames[0])

    def show(self, instant: int | None = None) -> None:
        """Show a time: its points, its cameras and its pictures."""
        with self._lock:  # not viser's `atomic`, whose lock another thread may take for its own and keep
            if instant is not None:
                self.instant = min(instant, len(self.scene.instants) - 1)
            times = range(len(self.scene.instants))
            wanted: list[tuple[Moving, int | None]] = [("all", None)] if len(self.scene.timeless) else []
            if self.display.times == "one":
                wanted += [("all", self.instant)]
            elif self.display.times == "all":
                wanted += [("all", k) for k in times]
            else:
                wanted += [*(("static", k) for k in times), ("moving", self.instant)]
            for key in wanted:
                if key not in self._clouds:
                    self._clouds[key] = self._add_cloud(*key)
            for key, handle in self._clouds.items():
                handle.visible = key in wanted
            self._show_tracks()
            self._show_current()

    def _add_cloud(self, moving: Moving, instant: int | None) -> Any:
        cloud: Cloud = self.palette.part(self.display, instant, moving)
        return self.server.scene.add_point_cloud(
            f"/points/{moving}/{instant}",
            cloud.points,
            cloud.colors,
            point_size=self.scene.point_size * self._shown_size,
            point_shape="circle",
        )

    def _add_cameras(self) -> None:
        scene = self.scene
        self._cameras = []
        for frame in evenly(len(scene), FRUSTUMS).tolist():
            thumbnail = _at_width(scene.load_image(frame), THUMBNAIL_WIDTH)
            self._cameras.append(self._add_frustum(f"/cameras/{frame}", frame, self._depth, GREY, thumbnail))
        self._paths = []
        for device in np.unique(scene.camera_ids):
            centers = camera_centers(scene.extrinsics[scene.camera_ids == device])
            apart = np.linalg.norm(np.diff(centers, axis=0), axis=1) > 1e-6 * self._depth
            centers = centers[np.concatenate(([True], apart))]  # a spline has no direction where two places are one
            if len(centers) > 1:
                self._paths.append(
                    self.server.scene.add_spline_catmull_rom(f"/path/{device}", centers, line_width=3, color=PATH)
                )

    def _add_frustum(
        self, name: str, frame: int, depth: float, color: tuple[int, int, int], image: npt.NDArray[Any] | None
    ) -> Any:
        scene = self.scene
        width, height = scene.image_sizes[frame]
        handle = self.server.scene.add_camera_frustum(
            name,
            fov=2 * math.atan(height / 2 / scene.intrinsics[frame, 1, 1]),
            aspect=width / scene.intrinsics[frame, 0, 0] / (height / scene.intrinsics[frame, 1, 1]),
            scale=depth,
            color=color,
            image=image,
            wxyz=_quaternion(scene.extrinsics[frame]),
            position=camera_centers(scene.extrinsics[frame]),
        )
        handle.on_click(lambda event: self._look_through(event.client, frame))
        return handle

    def _show_tracks(self) -> None:
        """The tracks of what moves, up to the time that is shown."""
        if self._trails is not None:
            self._trails.remove()
            self._trails = None
        segments = self.scene.trails(self.instant)
        if self._tracks is not None and self._tracks.value and len(segments):
            # Dots: this viser draws no segments, and a spline for each track would be an object each.
            along = np.linspace(0, 1, DOTS, dtype=np.float32)[:, None]
            dots = (segments[:, :1] + along * (segments[:, 1:] - segments[:, :1])).reshape(-1, 3)
            self._trails = self.server.scene.add_point_cloud(
                "/tracks", dots, TRACK, point_size=DOT_SHARE * self._depth, point_shape="circle"
            )

    def _show_current(self) -> None:
        """The cameras of the time that is shown, and the pictures of one of them."""
        for handle in self._current:
            handle.remove()
        self._current = []
        image = self.scene.load_image(self.frame)
        for k, frame in enumerate(self.scene.frames_at(self.instant).tolist()):
            picture = image if frame == self.frame else self.scene.load_image(frame)
            self._current.append(
                self._add_frustum(
                    f"/current/{k}", frame, 1.15 * self._depth, CURRENT, _at_width(picture, PICTURE_WIDTH)
                )
            )
        self._show_cameras()
        pictures = {"image": image, **self.palette.pictures(self.scene.load_maps(self.frame))}
        self._told.content = (
            f"Frame {self.frame + 1} of {len(self.scene)}, time {self.scene.instants[self.instant]:.3f}"
        )
        for name, markdown in self._pictures.items():
            known = name in pictures
            markdown.content = _markdown(name, _at_width(pictures[name], PICTURE_WIDTH)) if known else ""

    def _show_cameras(self) -> None:
        for handle in (*self._cameras, *self._current):
            handle.visible = self._frustums.value
        for handle in self._paths:
            handle.visible = self._path.value

    # -----------------------------------------------------------------------------------------------------------
    # Where the browser looks from

    def _look_through(self, client: viser.ClientHandle | None, frame: int) -> None:
        """See what a frame's camera saw, all of it."""
        scene = self.scene
        self._device = int(scene.camera_ids[frame])
        with self._lock:
            self.show(scene.instant_of(frame))
            self._time.value = self.instant
        self._frustums.value = self._path.value = False  # others stand in the way
        if client is None:
            return
        pose, (width, height) = scene.extrinsics[frame], scene.image_sizes[frame]
        across, down = width / scene.intrinsics[frame, 0, 0], height / scene.intrinsics[frame, 1, 1]
        tangent = max(down, across / max(client.camera.aspect, 1e-3)) / 2
        distance = self._depth / FRUSTUM_SHARE  # of the place that the mouse turns the view around
        _look(client, camera_centers(pose), pose[2, :3], -pose[1, :3], distance, 2 * math.atan(tangent))

    def _look_from_behind(self, client: viser.ClientHandle | None) -> None:
        """See all cameras and points."""
        if client is None:
            return
        self._frustums.value = self._path.value = True
        scene = self.scene
        aspect, above = client.camera.aspect or 1.5, 1.0
        if aspect < 1:
            above = ABOVE_PANEL
        else:
            aspect *= BESIDE_PANEL
        corners = camera_corners(scene.extrinsics, scene.intrinsics, scene.image_sizes, self._depth)
        look = overview(scene.extrinsics, scene.everything.points, aspect / above, corners)
        pose, focal = look.extrinsics, above * look.focal
        lower = (1 - above) / 2 / focal * look.distance  # so that all is higher
        position = camera_centers(pose) + lower * pose[1, :3]
        _look(client, position, pose[2, :3], -pose[1, :3], look.distance, 2 * math.atan(0.5 / focal))


def _viser_server(host: str, port: int, label: str) -> viser.ViserServer:
    import psutil
    import viser

    guard_servers()
    # It prints a table of its own; and it looks through all processes, any of which may end meanwhile.
    with contextlib.redirect_stdout(io.StringIO()):
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):
                return viser.ViserServer(host=host, port=port, label=label, verbose=False)


def _look(
    client: viser.ClientHandle,
    position: npt.NDArray[Any],
    forward: npt.NDArray[Any],
    up: npt.NDArray[Any],
    distance: float,
    fov: float,
) -> None:
    client.camera.up_direction = up
    client.camera.position = position
    client.camera.look_at = position + distance * forward
    client.camera.fov = fov


def _quaternion(extrinsics: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Camera-to-world rotation, (w, x, y, z) as viser has it."""
    from viser.transforms import SO3

    rotation: npt.NDArray[Any] = SO3.from_matrix(extrinsics[:, :3].T).wxyz
    return rotation


def _at_width(image: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    scale = width / image.shape[1]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, (width, max(round(scale * image.shape[0]), 1)), interpolation=interpolation)


def _markdown(name: str, image: npt.NDArray[Any]) -> str:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"![{name}](data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()})"


def serve(
    scene: ViewedScene,
    display: Display,
    instant: int,
    host: str,
    port: int,
) -> None:
    """Let browsers look at a scene until the user interrupts, and say where; of the port see `check_address`."""
    viewer = Viewer(scene, display, instant, host, port)
    try:
        print(f"Look at http://{f'[{host}]' if ':' in host else host}:{port} ; Ctrl-C ends.", flush=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    finally:
        viewer.stop()
