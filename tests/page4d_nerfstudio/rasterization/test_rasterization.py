"""Images and gradients of the rasteriser on a CPU against the equations evaluated directly, and against gsplat's."""

from __future__ import annotations

import pytest
import torch
from crowded_scene import NAMES, assert_close_to_scale, gradients_of, make_scene, make_weights
from rasterization_by_formula import evaluate

from page4d_nerfstudio.rasterization import rasterize


@pytest.mark.parametrize("render_mode", ["RGB", "D", "ED", "RGB+D", "RGB+ED"])
def test_every_pixel_equals_the_formula_in_every_render_mode(render_mode):
    scene = make_scene()
    backgrounds = torch.rand(2, 3, generator=torch.Generator().manual_seed(3))
    expected = evaluate(
        *scene, backgrounds=backgrounds, depth=render_mode != "RGB", expected_depth=render_mode.endswith("ED")
    )
    reference = expected.render if "RGB" in render_mode else expected.render[..., -1:]

    render, alpha, info = rasterize(*scene, backgrounds=backgrounds, render_mode=render_mode)

    clear = ~expected.ambiguous
    assert clear.float().mean() > 0.98
    assert torch.equal(info["radii"], expected.radii)
    assert render.dtype == torch.float32
    torch.testing.assert_close(alpha[clear].double(), expected.alpha[clear], atol=2e-6, rtol=0)
    # Expected depth is divided by alpha = 1 - T, which carries a rounding of 6e-8 and may be as small as 1/255.
    rtol = 2e-5 if render_mode.endswith("ED") else 0
    torch.testing.assert_close(render[clear].double(), reference[clear], atol=1e-5, rtol=rtol)


def test_the_scene_of_these_tests_reaches_every_branch():
    """A test scene in which nothing is clamped, culled or ended would prove little."""
    scene = make_scene()
    expected = evaluate(*scene)
    assert (expected.radii == 0).any(dim=1).all(), "some Gaussians are culled in each camera"
    assert (expected.alpha > 0.999).any(), "some pixels end early"
    assert (expected.alpha == 0).any(), "some pixels are empty"
    assert expected.radii.max() > 16, "some Gaussians reach over several tiles"
    assert (scene[3] > 0.999).any(), "alpha is clamped somewhere"
    points = torch.einsum("cij,nj->cni", scene[5][:, :3, :3], scene[0]) + scene[5][:, None, :3, 3]
    slopes = (points[..., :2] / points[..., 2:]).abs()[expected.radii > 0]
    assert (slopes[:, 0] > 0.48 / 0.9 + 0.15 / 0.9).any(), "the Jacobian is clamped somewhere"


@pytest.mark.parametrize("n_channels", [1, 3, 7])
def test_gradients_of_all_inputs_equal_those_of_the_formula(n_channels):
    scene = make_scene(n_channels=n_channels)
    backgrounds = torch.rand(2, n_channels, generator=torch.Generator().manual_seed(3)).requires_grad_(True)
    differentiated = [*scene[:6], backgrounds]
    expected = evaluate(*scene, backgrounds=backgrounds, depth=True)
    weights = make_weights(expected.render.shape) * ~expected.ambiguous[..., None]
    alpha_weights = make_weights(expected.alpha.shape, seed=2) * ~expected.ambiguous[..., None]
    reference = gradients_of((expected.render * weights).sum() + (expected.alpha * alpha_weights).sum(), differentiated)

    render, alpha, _ = rasterize(*scene, backgrounds=backgrounds, render_mode="RGB+D")
    gradients = gradients_of((render * weights).sum() + (alpha * alpha_weights).sum(), differentiated)

    for name, gradient, wanted in zip([*NAMES, "backgrounds"], gradients, reference, strict=True):
        assert gradient.dtype == torch.float32
        assert_close_to_scale(gradient, wanted.double(), 2e-5, name)


def formula_colors(means, coefficients, viewmats, degree):
    """Colours [C, N, 3] from harmonics [N, K, 3] by gsplat's PyTorch function."""
    from gsplat.cuda._torch_impl import _spherical_harmonics

    directions = means - torch.linalg.inv(viewmats)[:, None, :3, 3]
    return (_spherical_harmonics(degree, directions, coefficients.expand(len(viewmats), -1, -1, -1)) + 0.5).clamp_min(0)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
def test_harmonics_and_their_gradients_equal_the_formula_at_every_degree(degree):
    scene = make_scene(n=12)
    coefficients = make_weights((12, 25, 3)).float().requires_grad_(True)
    scene[4] = coefficients
    exact = [tensor.detach().double().requires_grad_(True) for tensor in scene[:6]]
    exact_colors = formula_colors(exact[0], exact[4], exact[5], degree)
    assert (exact_colors == 0).any(), "some colours are clamped"
    expected = evaluate(*exact[:4], exact_colors, exact[5], *scene[6:])
    weights = make_weights(expected.render.shape) * ~expected.ambiguous[..., None]
    reference = gradients_of((expected.render * weights).sum(), exact)

    render, _, _ = rasterize(*scene, sh_degree=degree)
    gradients = gradients_of((render * weights).sum(), scene[:6])

    clear = ~expected.ambiguous
    torch.testing.assert_close(render[clear].double(), expected.render[clear], atol=1e-5, rtol=0)
    for name, gradient, wanted in zip(NAMES, gradients, reference, strict=True):
        assert_close_to_scale(gradient, wanted, 2e-5, name)


def test_harmonics_may_differ_from_camera_to_camera():
    scene = make_scene(n=12)
    scene[4] = make_weights((2, 12, 4, 3)).mul(0.4).float().requires_grad_(True)
    render, _, _ = rasterize(*scene, sh_degree=1)
    weights = make_weights(render.shape)
    (gradient,) = gradients_of((render * weights).sum(), [scene[4]])
    for c in range(2):
        alone = [*scene[:4], scene[4][c], scene[5][c : c + 1], scene[6][c : c + 1], *scene[7:]]
        of_one, _, _ = rasterize(*alone, sh_degree=1)
        (gradient_of_one,) = gradients_of((of_one * weights[c : c + 1]).sum(), [scene[4]])
        torch.testing.assert_close(render[c : c + 1], of_one)
        torch.testing.assert_close(gradient[c], gradient_of_one[c])


@pytest.mark.slow
def test_a_crowded_scene_equals_the_formula():
    scene = make_scene(n=1500, width=100, height=70, scale=0.03)
    with torch.no_grad():
        expected = evaluate(*scene, depth=True, margin=1e-5)
        render, alpha, _ = rasterize(*scene, render_mode="RGB+D")
    clear = ~expected.ambiguous

    assert clear.float().mean() > 0.98
    torch.testing.assert_close(alpha[clear].double(), expected.alpha[clear], atol=1e-5, rtol=0)
    torch.testing.assert_close(render[clear].double(), expected.render[clear], atol=1e-4, rtol=0)


def test_gradients_do_not_depend_on_how_many_others_are_out_of_sight():
    """Work is shared out in chunks of Gaussians and of tiles; these come to lie in the last chunks."""
    scene = make_scene()
    behind = [tensor.detach()[:1].repeat(2500, *[1] * (tensor.dim() - 1)) for tensor in scene[:5]]
    behind[0][:, 2] -= 100.0
    crowded = [torch.cat([far, near]) for far, near in zip(behind, scene[:5], strict=True)]
    weights = make_weights((2, 27, 53, 3)).float()

    alone = gradients_of((rasterize(*scene)[0] * weights).sum(), scene[:6])
    among_others = gradients_of((rasterize(*crowded, *scene[5:])[0] * weights).sum(), scene[:6])

    for name, gradient, wanted in zip(NAMES, among_others, alone, strict=True):
        assert_close_to_scale(gradient, wanted.double(), 1e-6, name)


def test_projection_equals_that_of_gsplat():
    from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci

    scene = make_scene(n=200, n_cameras=3)
    means, quats, scales, _, _, viewmats, Ks = (tensor.double() for tensor in scene[:7])
    width, height = scene[7:]
    covars, _ = _quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    radii, means2d, depths, conics, _ = _fully_fused_projection(means, covars, viewmats, Ks, width, height)

    _, _, info = rasterize(*scene)

    if radii.dim() == 3:  # gsplat 1.5 and later bound Gaussians in another way, along each axis
        kept = (radii > 0).all(dim=-1) & (info["radii"] > 0)
    else:
        kept = radii > 0
        assert torch.equal(info["radii"], radii)
        assert all((info[name][~kept] == 0).all() for name in ("means2d", "depths", "conics"))
    assert 0.5 < kept.float().mean() < 1.0
    for name, wanted in (("means2d", means2d), ("depths", depths), ("conics", conics)):
        torch.testing.assert_close(info[name][kept].double(), wanted[kept], rtol=1e-5, atol=1e-5)


def test_image_plane_gradients_for_densification_equal_the_formula():
    scene = make_scene()
    expected = evaluate(*scene)
    weights = make_weights(expected.render.shape) * ~expected.ambiguous[..., None]
    gradient, absolute = expected.means2d_gradients((expected.render * weights).sum())

    render, _, info = rasterize(*scene, absgrad=True)
    info["means2d"].retain_grad()
    (render * weights).sum().backward()

    assert_close_to_scale(info["means2d"].grad, gradient, 2e-5, "the gradient")
    assert_close_to_scale(info["means2d"].absgrad, absolute, 2e-5, "the absolute gradient")


def test_absolute_gradients_are_those_of_the_last_backward_pass():
    scene = make_scene(n=8)
    render, _, info = rasterize(*scene, absgrad=True)
    render.sum().backward(retain_graph=True)
    first = info["means2d"].absgrad.clone()
    render.sum().backward()
    torch.testing.assert_close(info["means2d"].absgrad, first)
