"""What holds for any image of any Gaussians, and what happens at the edges of what can be rasterised."""

from __future__ import annotations

import math
import subprocess
import sys
import threading

import pytest
import torch
from crowded_scene import NAMES, assert_close_to_scale, gradients_of, make_scene, make_weights
from launching import AS_COMMAND
from rasterization_by_formula import evaluate

from page4d_nerfstudio.rasterization import RasterizationError, rasterize


def one_gaussian(x=32.0, y=24.0, depth=4.0, sigma=2.0, opacity=0.9, width=64, height=48, color=(0.2, 0.5, 0.9)):
    """A round Gaussian whose image is centred at (x, y), with the given standard deviation there (px, before blur)."""
    focal = 50.0
    means = torch.tensor([[(x - width / 2) / focal * depth, (y - height / 2) / focal * depth, depth]])
    scales = torch.full((1, 3), sigma * depth / focal)
    Ks = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
    quats, opacities, colors = torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([opacity]), torch.tensor([color])
    return [means, quats, scales, opacities, colors, torch.eye(4)[None], Ks, width, height]


# Invariances


def test_the_order_in_which_gaussians_are_given_does_not_matter():
    scene = make_scene()
    shuffled = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    render, alpha, _ = rasterize(*scene)
    again, alpha_again, _ = rasterize(*(tensor[shuffled] for tensor in scene[:5]), *scene[5:])
    assert torch.equal(render, again)
    assert torch.equal(alpha, alpha_again)


def test_moving_world_and_cameras_together_changes_nothing():
    scene = make_scene()
    exact = [tensor.detach().double() if torch.is_tensor(tensor) else tensor for tensor in scene]
    r = torch.tensor([-0.4, -1.1, -0.5], dtype=torch.float64)  # a rotation by the angle |r| about r
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3] = torch.linalg.matrix_exp(torch.linalg.cross(r.expand(3, 3), torch.eye(3).double()).T)
    motion[:3, 3] = torch.tensor([3.0, -2.0, 0.7])
    turn = torch.cat([torch.cos(r.norm() / 2)[None], torch.sin(r.norm() / 2) * r / r.norm()])
    means, quats, scales, opacities, colors, viewmats, *rest = exact
    moved_means = means @ motion[:3, :3].T + motion[:3, 3]
    w, v = quats[:, :1], quats[:, 1:]
    moved_quats = torch.cat(
        [
            turn[0] * w - (v * turn[1:]).sum(dim=1, keepdim=True),
            turn[0] * v + w * turn[1:] + torch.linalg.cross(turn[1:].expand_as(v), v),
        ],
        dim=1,
    )
    moved_viewmats = viewmats @ torch.linalg.inv(motion)
    moved = [moved_means, moved_quats, scales, opacities, colors, moved_viewmats, *rest]
    ambiguous = evaluate(*exact).ambiguous

    render, _, _ = rasterize(*scene, render_mode="RGB+D")
    again, _, _ = rasterize(*(t.float() if torch.is_tensor(t) else t for t in moved), render_mode="RGB+D")

    torch.testing.assert_close(again[~ambiguous], render[~ambiguous], atol=2e-5, rtol=2e-5)


def test_two_cameras_at_once_equal_one_after_the_other():
    scene = make_scene()
    weights = make_weights((2, 27, 53, 3)).float()
    render, alpha, info = rasterize(*scene)
    gradients = gradients_of((render * weights).sum(), scene[:6])
    summed = [torch.zeros_like(tensor) for tensor in scene[:6]]
    for c in range(2):
        of_one, alpha_of_one, info_of_one = rasterize(*scene[:5], scene[5][c : c + 1], scene[6][c : c + 1], *scene[7:])
        assert torch.equal(of_one[0], render[c])
        assert torch.equal(alpha_of_one[0], alpha[c])
        assert torch.equal(info_of_one["radii"][0], info["radii"][c])
        for total, gradient in zip(summed, gradients_of((of_one * weights[c]).sum(), scene[:6]), strict=True):
            total += gradient
    for name, gradient, total in zip(NAMES, gradients, summed, strict=True):
        assert_close_to_scale(gradient, total.double(), 2e-6, name)


def test_gaussians_at_the_same_depth_are_drawn_in_the_order_of_their_index():
    means, quats, scales, _, _, *cameras = one_gaussian()
    two = [means.repeat(2, 1), quats.repeat(2, 1), scales.repeat(2, 1), torch.tensor([0.999, 0.999])]
    render, _, _ = rasterize(*two, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), *cameras)
    centre = render[0, 23, 31]
    assert centre[0] > 0.9
    assert centre[1] < 0.1


# The rules that end a Gaussian


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_gaussian_ends_with_the_last_tile_that_its_radius_touches(axis):
    """Three standard deviations are not where its alpha falls below 1/255, so the edge of that tile shows."""
    # Variance 96 px^2 with the blur: radius 30, from 1.9 to 31.9, where the second tile ends at 32.
    position = {"x": 8.5, "y": 8.5, axis: 1.9}
    scene = one_gaussian(sigma=math.sqrt(96 - 0.3), opacity=1.0)
    scene[6][0, :2, 2] = torch.tensor([position["x"], position["y"]])  # seen straight on, its image is round
    _, alpha, info = rasterize(*scene)
    assert info["radii"].item() == 30
    along = alpha[0, 8, :, 0] if axis == "x" else alpha[0, :, 8, 0]
    assert math.exp(-0.5 * (32.5 - 1.9) ** 2 / 96) > 1 / 255
    assert (along[:32] > 0).all()
    assert (along[32:] == 0).all()


def test_a_pixel_that_has_ended_stays_so_however_much_lies_behind():
    means, quats, scales, _, _, *cameras = one_gaussian(sigma=3.0)
    n = 700
    # At the centre, two leave 0.015^2 = 2.25e-4 of the light; the third would leave less than 1e-4, so nothing after it
    # is drawn, though each of the faint ones alone would leave more.
    opacities = torch.full((n,), 0.01)
    opacities[:3] = 0.985
    means = means.new_zeros(n, 3)
    means[:, 2] = 4.0 + 1e-3 * torch.arange(n)
    cameras[1][0, :2, 2] = torch.tensor([32.5, 24.5])
    _, alpha, _ = rasterize(means, quats.repeat(n, 1), scales.repeat(n, 1), opacities, torch.ones(n, 1), *cameras)
    assert alpha[0, 24, 32].item() == pytest.approx(1 - 0.015**2, abs=1e-6)


@pytest.mark.parametrize(
    ("depth", "kept"), [(1.0, True), (0.999, False), (-4.0, False), (0.0, False), (9.0, True), (9.01, False)]
)
def test_near_and_far_planes_belong_to_what_is_kept(depth, kept):
    scene = one_gaussian(depth=4.0)
    scene[0] = torch.tensor([[0.0, 0.0, depth]])
    _, alpha, info = rasterize(*scene, near_plane=1.0, far_plane=9.0)
    assert (info["radii"].item() > 0) == kept
    assert (alpha.max() > 0).item() == kept


@pytest.mark.parametrize(("x", "y"), [(-30.0, 24.0), (94.0, 24.0), (32.0, -30.0), (32.0, 78.0)])
def test_a_gaussian_off_the_image_has_radius_0_and_gradient_0(x, y):
    scene = [tensor.requires_grad_(True) if torch.is_tensor(tensor) else tensor for tensor in one_gaussian(x=x, y=y)]
    render, alpha, info = rasterize(*scene)
    assert info["radii"].item() == 0
    for gradient in gradients_of(render.sum() + alpha.sum(), scene[:6]):
        assert (gradient == 0).all()


# Numbers that are no Gaussians, and the largest and smallest that are


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_a_gaussian_that_is_not_finite_is_left_out_and_harms_no_other(which, value):
    scene = make_scene()
    damaged = [tensor.detach().clone() for tensor in scene[:6]]
    damaged[which].reshape(30, -1)[7, 0] = value
    damaged = [tensor.requires_grad_(True) for tensor in damaged]
    others = torch.arange(30) != 7
    wanted, _, _ = rasterize(*(tensor[others] for tensor in scene[:5]), *scene[5:])
    weights = make_weights(wanted.shape).float()
    wanted_gradients = gradients_of((wanted * weights).sum(), scene[:6])

    render, _, info = rasterize(*damaged, *scene[6:])
    gradients = gradients_of((render * weights).sum(), damaged)

    assert (info["radii"][:, 7] == 0).all()
    torch.testing.assert_close(render, wanted)
    for name, gradient, of_others in zip(NAMES, gradients, wanted_gradients, strict=True):
        if name != "viewmats":
            assert (gradient[7] == 0).all()
        assert_close_to_scale(gradient, of_others.double(), 1e-5, name)


def test_a_quaternion_of_length_0_is_left_out():
    scene = one_gaussian()
    scene[1] = torch.zeros(1, 4, requires_grad=True)
    render, alpha, info = rasterize(*scene)
    assert info["radii"].item() == 0
    assert (gradients_of(render.sum() + alpha.sum(), [scene[1]])[0] == 0).all()


def test_a_gaussian_larger_than_the_image_covers_all_of_it():
    scene = one_gaussian(sigma=1e7, opacity=0.7)
    scene[:6] = [tensor.requires_grad_(True) for tensor in scene[:6]]
    render, alpha, info = rasterize(*scene)
    torch.testing.assert_close(alpha, torch.full_like(alpha, 0.7))
    assert info["radii"].item() > 1e7
    for gradient in gradients_of(render.sum(), scene[:6]):
        assert torch.isfinite(gradient).all()


def test_a_gaussian_without_size_is_as_large_as_the_blur():
    scene = one_gaussian(x=32.5, y=24.5, sigma=0.0, opacity=0.8)
    scene[:6] = [tensor.requires_grad_(True) for tensor in scene[:6]]
    render, alpha, _ = rasterize(*scene, eps2d=0.3)
    for offset in range(3):
        wanted = 0.8 * math.exp(-0.5 * offset**2 / 0.3)
        wanted = wanted if wanted >= 1 / 255 else 0.0
        assert alpha[0, 24, 32 + offset, 0].item() == pytest.approx(wanted, abs=1e-6)
    for gradient in gradients_of(render.sum(), scene[:6]):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("n_channels", [1, 3, 8])
@pytest.mark.parametrize("render_mode", ["RGB", "D", "RGB+ED"])
def test_no_gaussians_make_an_image_of_the_background(n_channels, render_mode):
    empty = [tensor[:0].detach().requires_grad_(True) for tensor in make_scene(n_channels=n_channels)[:5]]
    cameras = make_scene()[5:]
    backgrounds = torch.rand(2, n_channels)
    render, alpha, info = rasterize(*empty, *cameras, backgrounds=backgrounds, render_mode=render_mode, absgrad=True)
    assert (alpha == 0).all()
    n_rendered = n_channels if "RGB" in render_mode else 0
    assert torch.equal(render[..., :n_rendered], backgrounds[:, None, None, :n_rendered].expand(2, 27, 53, n_rendered))
    assert (render[..., n_rendered:] == 0).all()
    info["means2d"].retain_grad()
    (render.sum() + alpha.sum()).backward()
    assert empty[0].grad.shape == (0, 3)
    assert info["means2d"].grad.shape == info["means2d"].absgrad.shape == (2, 0, 2)


# How it is called


def test_tensors_need_not_be_contiguous():
    scene = make_scene()
    render, _, _ = rasterize(*scene)

    def strided(tensor):
        return tensor.detach().repeat_interleave(2, dim=-1)[..., ::2].requires_grad_(True)

    apart = [strided(tensor) for tensor in scene[:7]]
    assert not any(tensor.is_contiguous() for tensor in apart)
    again, _, _ = rasterize(*apart, *scene[7:])
    assert torch.equal(render, again)
    weights = make_weights(render.shape).float().transpose(1, 2).contiguous().transpose(1, 2)
    wanted = gradients_of((render * weights).sum(), scene[:6])
    for gradient, reference in zip(gradients_of((again * weights).sum(), apart[:6]), wanted, strict=True):
        torch.testing.assert_close(gradient, reference)


@pytest.mark.parametrize("which", range(6))
def test_any_one_input_alone_can_be_learnt(which):
    scene = make_scene()
    weights = make_weights((2, 27, 53, 3)).float()
    wanted = gradients_of((rasterize(*scene)[0] * weights).sum(), scene[which : which + 1])
    alone = [tensor.detach().requires_grad_(i == which) for i, tensor in enumerate(scene[:6])]
    gradient = gradients_of((rasterize(*alone, *scene[6:])[0] * weights).sum(), [alone[which]])
    torch.testing.assert_close(gradient, wanted)


def test_intrinsics_are_constants():
    scene = make_scene()
    scene[6].requires_grad_(True)
    rasterize(*scene)[0].sum().backward()
    assert scene[6].grad is None


def test_results_are_the_same_bits_whatever_the_number_of_threads():
    before = torch.get_num_threads()
    results = []
    try:
        for n_threads in (1, 2, 3, 2):
            torch.set_num_threads(n_threads)
            scene = make_scene(n=3000, width=100, height=70, scale=0.05)
            scene[4] = make_weights((3000, 9, 3)).float().requires_grad_(True)
            render, alpha, _ = rasterize(*scene, sh_degree=2)
            gradients = gradients_of((render * make_weights(render.shape).float()).sum(), scene[:6])
            results.append([render, alpha, *gradients])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_two_threads_may_rasterise_at_once():
    """As the viewer does while training goes on."""
    scenes = [make_scene(n=400, seed=seed) for seed in range(4)]
    wanted = [rasterize(*scene)[0] for scene in scenes]
    found: list[list[torch.Tensor]] = [[] for _ in scenes]

    def work(i):
        for _ in range(20):
            found[i].append(rasterize(*scenes[i])[0])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for images, image in zip(found, wanted, strict=True):
        assert len(images) == 20
        assert all(torch.equal(each, image) for each in images)


def test_a_second_derivative_is_refused_not_wrong():
    scene = make_scene(n=5)
    render, _, _ = rasterize(*scene)
    (gradient,) = torch.autograd.grad((render**2).sum(), [scene[0]], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# Where there is none, and refusals


def test_without_numba_a_cpu_is_refused_in_a_sentence(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("page4d_nerfstudio.rasterization.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)  # what makes an import fail

    with pytest.raises(
        RasterizationError, match=r"^Rasterising on a CPU needs numba, which can't be imported: .*numba"
    ):
        rasterize(*make_scene())


@pytest.mark.slow
def test_neither_the_import_nor_a_cpu_touches_gsplat():
    """Its first call to CUDA would start a build of minutes; and numba, slow to import, waits for the first image."""
    program = f"""
{AS_COMMAND}
import torch
from page4d_nerfstudio.rasterization import rasterize
print([name for name in ("gsplat", "numba", "nerfstudio") if name in sys.modules])
one = torch.tensor([[0.0, 0.0, 1.0]]), torch.ones(1, 4), torch.ones(1, 3), torch.ones(1), torch.ones(1, 3)
rasterize(*one, torch.eye(4)[None], torch.eye(3)[None], 8, 8)
print([name for name in ("gsplat", "numba", "nerfstudio") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['numba']"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means": torch.zeros(30, 2)}, r"means must have the shape \[N, 3\], got \[30, 2\]"),
        ({"means": torch.zeros(30, 3).int()}, "means must be float32, got torch.int32"),
        ({"quats": torch.zeros(30, 3)}, r"quats must have the shape \[N, 4\] = \[30, 4\], got \[30, 3\]"),
        ({"scales": torch.zeros(29, 3)}, r"scales must have the shape .*\[30, 3\], got \[29, 3\]"),
        ({"opacities": torch.zeros(30, 1)}, r"opacities must have the shape .*\[30\], got \[30, 1\]"),
        ({"colors": torch.zeros(30)}, r"colors must have the shape \[N, D\] or \[C, N, D\], got \[30\]"),
        ({"colors": torch.zeros(31, 3)}, r"colors must have the shape \[30, 3\], got \[31, 3\]"),
        ({"colors": torch.zeros(30, 0)}, "colors must have the shape"),
        ({"colors": torch.zeros(3, 30, 3)}, r"\[2, 30, 3\], got \[3, 30, 3\]"),
        ({"sh_degree": 1}, r"\[N, K, 3\] or \[C, N, K, 3\], got \[30, 3\]"),
        (
            {"sh_degree": 2, "colors": torch.zeros(30, 4, 3)},
            "sh_degree=2 needs 9 coefficients per channel, colors has 4",
        ),
        ({"sh_degree": 5, "colors": torch.zeros(30, 36, 3)}, "sh_degree must be from 0 to 4, got 5"),
        ({"viewmats": torch.eye(4)}, r"viewmats must have the shape \[C, 4, 4\], C at least 1, got \[4, 4\]"),
        ({"viewmats": torch.zeros(0, 4, 4)}, r"viewmats must have the shape .* C at least 1, got \[0, 4, 4\]"),
        ({"Ks": torch.eye(3)[None]}, r"Ks must have the shape \[C, 3, 3\] = \[2, 3, 3\], got \[1, 3, 3\]"),
        ({"backgrounds": torch.zeros(3)}, r"backgrounds must have the shape .*\[2, 3\], got \[3\]"),
        (
            {"quats": torch.zeros(30, 4).double()},
            "quats must be of the type of means, torch.float32, got torch.float64",
        ),
        ({"scales": torch.zeros(30, 3, device="meta")}, "scales must be on the device of means, cpu, got meta"),
        ({"width": 0}, "at least 1x1 pixels, got width=0, height=27"),
        ({"near_plane": 0.0}, "0 < near_plane < far_plane, got near_plane=0.0"),
        ({"near_plane": 2.0, "far_plane": 1.0}, "0 < near_plane < far_plane"),
        ({"eps2d": -0.1}, "eps2d .* can't be negative, got -0.1"),
        ({"render_mode": "depth"}, "render_mode must be one of RGB, D, ED, RGB\\+D, RGB\\+ED, got 'depth'"),
        ({"means": torch.zeros(30, 3, device="meta")}, "means must be on a CPU or CUDA, got meta"),
        ({"means": torch.zeros(30, 3).double()}, "means must be float32, got torch.float64"),
    ],
)
def test_what_cannot_be_rasterised_is_refused_by_name(changes, message):
    arguments = dict(zip([*NAMES, "Ks", "width", "height"], make_scene(), strict=True))
    arguments.update(changes)
    with pytest.raises(RasterizationError, match=message):
        rasterize(**arguments)
