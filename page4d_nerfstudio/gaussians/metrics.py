"""Image metrics: of the whole image, of what moves in it, and of what the training views saw too.

A full-image figure lets a static model look good, since most of a scene stands still: with a mask of the moving pixels,
PSNR, SSIM and LPIPS are given for that region too, and PSNR for the rest. A held-out camera may see what no training
camera saw, which no method can know: with a mask of the covisible pixels there are the figures of DyCheck (Gao et al.,
"Monocular Dynamic View Synthesis: A Reality Check", NeurIPS 2022, section 4.1). As elsewhere in nerfstudio, PSNR is
over values in [0, 1] and SSIM has a Gaussian window of 11 pixels with standard deviation 1.5 (Wang et al. 2004).
"""

from __future__ import annotations

import socket
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

# torchmetrics is imported where it is used: it imports transformers, and nerfstudio's commands would wait for both.

SSIM_SIGMA = 1.5
SSIM_BORDER = 5  # half of the window: so far from the border a window reaches beyond the image
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # Wang et al. 2004, for values in [0, 1]

LPIPSNetwork = Literal["alex", "vgg"]
LPIPS_NETWORKS: dict[LPIPSNetwork, str] = {"alex": "AlexNet", "vgg": "VGG16"}
# Pixels; of a smaller image the network's last pooling finds nothing.
LPIPS_LEAST_SIDES: dict[LPIPSNetwork, int] = {"alex": 31, "vgg": 16}
ANSWER_WITHIN = 10.0  # seconds, of the server that has the weights


def image_metrics(
    predicted: Tensor,
    truth: Tensor,
    moving: Tensor | None = None,
    covisible: Tensor | None = None,
    lpips: LazyLPIPS | None = None,
) -> dict[str, float]:
    """PSNR, SSIM and LPIPS of an image, of its moving and static regions, and of what is covisible.

    Args:
        predicted: [H, W, 3] in [0, 1].
        truth: [H, W, 3] in [0, 1].
        moving: [H, W, 1] or [H, W] bool, where something moves; None if that is not known.
        covisible: [H, W, 1] or [H, W] bool, what the training views saw too; None if that is not known.
        lpips: None leaves LPIPS out.

    Returns:
        `psnr`, `ssim` and `lpips`. With `moving`, also `psnr_moving` (of the error over the moving pixels only),
        `ssim_moving` (the mean of the SSIM map over them; windows of pixels at the region's border see what is outside
        of it), `lpips_moving` (as `LazyLPIPS` has it for a mask) and `psnr_static`. With `covisible`, DyCheck's `mpsnr`
        (of the error over these pixels only), `mssim` (see `masked_ssim`) and `mlpips`. What concerns an empty region
        is left out, and so is LPIPS where it can't be had. Whole-image SSIM is the mean over the windows that lie in
        the image.
    """
    ssim_map = structural_similarity_map(predicted, truth)  # [H, W]
    inside = ssim_map[SSIM_BORDER:-SSIM_BORDER, SSIM_BORDER:-SSIM_BORDER]
    metrics = {"psnr": psnr(predicted, truth), "ssim": float(inside.mean())}
    perceptual: dict[str, Tensor | None] = {"lpips": None}
    if moving is not None:
        mask = _as_mask(moving, predicted)
        if mask.any():
            metrics["psnr_moving"] = psnr(predicted[mask], truth[mask])
            metrics["ssim_moving"] = float(ssim_map[mask].mean())
            perceptual["lpips_moving"] = mask
        if not mask.all():
            metrics["psnr_static"] = psnr(predicted[~mask], truth[~mask])
    if covisible is not None:
        mask = _as_mask(covisible, predicted)
        if mask.any():
            metrics["mpsnr"] = psnr(predicted[mask], truth[mask])
            metrics["mssim"] = masked_ssim(predicted, truth, mask)
            perceptual["mlpips"] = mask
    for name, region in perceptual.items() if lpips is not None else ():
        distance = lpips(predicted, truth, region)  # type: ignore[misc]
        if distance is not None:
            metrics[name] = distance
    return metrics


def _as_mask(mask: Tensor, image: Tensor) -> Tensor:
    """[H, W, 1] or [H, W] as [H, W] bool on the image's device."""
    return mask.reshape(mask.shape[:2]).to(device=image.device, dtype=torch.bool)


def structural_similarity_map(predicted: Tensor, truth: Tensor) -> Tensor:
    """SSIM [H, W] around each pixel of two images [H, W, 3] in [0, 1], the mean of the channels.

    Windows that reach beyond the image see its reflection there.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, ssim = structural_similarity_index_measure(
        predicted.permute(2, 0, 1)[None],
        truth.permute(2, 0, 1)[None],
        sigma=SSIM_SIGMA,
        data_range=1.0,
        return_full_image=True,
    )
    return ssim[0].mean(dim=0)


def masked_ssim(predicted: Tensor, truth: Tensor, mask: Tensor) -> float:
    """DyCheck's mSSIM: SSIM whose windows see the pixels of a mask only.

    The windows' moments are partial convolutions (Liu et al., "Image Inpainting for Irregular Holes Using Partial
    Convolutions", ECCV 2018, eq. 1 and 2), along the rows and then along the columns. The figure is the mean over all
    windows that lie in the image. Those that see nothing of the mask have the same (empty) moments in both images and
    count as 1, as in the figures published with this metric: it is for comparing methods on the same masks.

    Args:
        predicted: [H, W, 3] in [0, 1].
        truth: [H, W, 3] in [0, 1].
        mask: [H, W] bool.
    """
    images = torch.stack((predicted, truth)).permute(0, 3, 1, 2)  # [2, 3, H, W]
    values = torch.cat((images, images.square(), images.prod(dim=0, keepdim=True)))  # x, y, x^2, y^2, xy
    moments = _windowed(values.flatten(0, 1)[:, None], mask[None, None].to(values.dtype)).unflatten(0, values.shape[:2])
    mean_x, mean_y, xx, yy, xy = moments.squeeze(2)  # [3, H - 10, W - 10] each
    # Where a window is cut, the moments' weights do not sum to 1: what cannot be a variance is brought back to one.
    variance_x, variance_y = (xx - mean_x.square()).clamp_min(0), (yy - mean_y.square()).clamp_min(0)
    most = (variance_x * variance_y).sqrt()
    covariance = torch.minimum(torch.maximum(xy - mean_x * mean_y, -most), most)
    similarity = (2 * mean_x * mean_y + SSIM_C1) * (2 * covariance + SSIM_C2)
    similarity = similarity / (mean_x.square() + mean_y.square() + SSIM_C1) / (variance_x + variance_y + SSIM_C2)
    return float(similarity.mean())


def _windowed(values: Tensor, mask: Tensor) -> Tensor:
    """SSIM's Gaussian window over values [B, 1, H, W] where a mask [1, 1, H, W] is 1: [B, 1, H - 10, W - 10]."""
    offsets = torch.arange(-SSIM_BORDER, SSIM_BORDER + 1, dtype=values.dtype, device=values.device)
    window = torch.softmax(-0.5 * (offsets / SSIM_SIGMA).square(), dim=0)
    for shape in ((1, 1, 1, -1), (1, 1, -1, 1)):
        kernel = window.reshape(shape)
        seen = F.conv2d(mask, torch.ones_like(kernel))
        values = F.conv2d(values * mask, kernel) * (len(window) / seen.clamp_min(1))
        mask = (seen > 0).to(values.dtype)
    return values


def psnr(predicted: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio, in dB, of values in [0, 1] of any one shape."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return float(peak_signal_noise_ratio(predicted, truth, data_range=1.0))


class LazyLPIPS:
    """LPIPS (Zhang et al., CVPR 2018), built at first use, and absent where the weights of its network can't be had.

    The weights are a download. A training must not fail, or wait, for a figure: without them, one note is printed and
    the figure is left out from then on.
    """

    def __init__(self, network: LPIPSNetwork = "alex") -> None:
        """`network`: whose features are compared; figures of different networks can't be."""
        self.network: LPIPSNetwork = network

    def __call__(self, predicted: Tensor, truth: Tensor, mask: Tensor | None = None) -> float | None:
        """LPIPS of two images, or None where the weights can't be had or the images are too small for the network.

        Args:
            predicted: [H, W, 3] in [0, 1].
            truth: [H, W, 3] in [0, 1].
            mask: [H, W] bool. With it, both images are black outside of it, and the map of distances, brought to the
                image's size, is averaged over it (DyCheck's mLPIPS).
        """
        if min(predicted.shape[:2]) < LPIPS_LEAST_SIDES[self.network]:
            return None
        if self._distance is None:
            return None
        distance = self._distance.to(predicted.device)
        images = [image.permute(2, 0, 1)[None] for image in (predicted, truth)]
        distance.spatial = mask is not None  # type: ignore[assignment]
        with torch.no_grad():
            if mask is None:
                return float(distance(*images, normalize=True))
            distances = distance(*(image * mask for image in images), normalize=True)  # [1, 1, H, W]
        return float(distances[0, 0][mask].mean())

    @cached_property
    def _distance(self) -> torch.nn.Module | None:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        waited = socket.getdefaulttimeout()
        socket.setdefaulttimeout(ANSWER_WITHIN)
        try:
            # Its layers draw first weights, which must not change what a training draws after this evaluation.
            with torch.random.fork_rng(devices=[]):
                return LearnedPerceptualImagePatchSimilarity(net_type=self.network).net.eval()
        except (OSError, RuntimeError, ModuleNotFoundError) as error:  # URLError and HTTPError are OSErrors
            name = LPIPS_NETWORKS[self.network]
            CONSOLE.log(f"LPIPS is left out, the weights of its {name} can't be had here: {error}", markup=False)
            return None
        finally:
            socket.setdefaulttimeout(waited)
