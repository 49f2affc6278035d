"""A video to a scene folder and a COLMAP model.

python examples/reconstruct_in_python.py page4d room/video.mp4 scene
"""

import sys

from page4d_hf import reconstruct
from page4d_hf.scene import read_scene, write_scene
from page4d_hf.scene.export import export_scene

weights, video, output = sys.argv[1:]
scene = reconstruct(video, weights, max_frames=24)
print(f"{len(scene)} cameras, {len(scene.points):,} points; {scene.info['refinement']['outcome']}")
write_scene(output, scene)  # for `page4d view` and `ns-train page4d-4dgs --data`
exported = export_scene(read_scene(output), f"{output}-colmap", "colmap")
print(f"Wrote {output}, and {output}-colmap with {exported.points:,} points, {exported.tracks:,} of them with tracks")
