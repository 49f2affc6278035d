"""Image metrics, for the whole image and for what moves in it.

A full-image figure lets a static model look good, since most of a scene stands still: with a mask of the moving pixels,
PSNR and SSIM are given for that region too, and PSNR for the rest. As elsewhere in nerfstudio, PSNR is over values in
[0, 1] and SSIM has a Gaussian window of 11 pixels with standard deviation 1.5 (Wang et al. 2004).
"""

from __future__ import annotations

import socket

import torch
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

# torchmetrics is imported where it is used: it imports transformers, and nerfstudio's commands would wait for both.

SSIM_SIGMA = 1.5
SSIM_BORDER = 5  # half of the window: so far from the border a window reaches beyond the image


def image_metrics(predicted: Tensor, truth: Tensor, moving: Tensor | None = None) -> dict[str, float]:
    """PSNR and SSIM of an image, and of its moving and static regions.

    Args:
        predicted: [H, W, 3] in [0, 1].
        truth: [H, W, 3] in [0, 1].
        moving: [H, W, 1] or [H, W] bool, where something moves; None if that is not known.

    Returns:
        `psnr` and `ssim`. With `moving`, also `psnr_moving` (of the error over the moving pixels only), `ssim_moving`
        (the mean of the SSIM map over them; windows of pixels at the region's border see what is outside of it) and
        `psnr_static`, each left out if its region is empty. Whole-image SSIM is the mean over the windows that lie in
        the image.
    """
    ssim_map = structural_similarity_map(predicted, truth)  # [H, W]
    inside = ssim_map[SSIM_BORDER:-SSIM_BORDER, SSIM_BORDER:-SSIM_BORDER]
    metrics = {"psnr": psnr(predicted, truth), "ssim": float(inside.mean())}
    if moving is not None:
        mask = moving.reshape(moving.shape[:2]).to(device=predicted.device, dtype=torch.bool)
        if mask.any():
            metrics["psnr_moving"] = psnr(predicted[mask], truth[mask])
            metrics["ssim_moving"] = float(ssim_map[mask].mean())
        if not mask.all():
            metrics["psnr_static"] = psnr(predicted[~mask], truth[~mask])
    return metrics


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


def psnr(predicted: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio, in dB, of values in [0, 1] of any one shape."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return float(peak_signal_noise_ratio(predicted, truth, data_range=1.0))


class LazyLPIPS:
    """LPIPS (Zhang et al., CVPR 2018) with AlexNet, built at first use, and absent where its weights can't be had.

    The weights are a download. A training must not fail, or wait, for a figure: without them, one note is printed and
    the figure is left out from then on.
    """

    def __init__(self, timeout: float = 10.0) -> None:
        """`timeout`: seconds to wait for an answer of the server that has the weights."""
        self.timeout = timeout
        self._metric: torch.nn.Module | None = None
        self._tried = False

    def __call__(self, predicted: Tensor, truth: Tensor) -> float | None:
        """LPIPS of two images [H, W, 3] in [0, 1], or None where the weights can't be had."""
        if not self._tried:
            self._tried = True
            self._metric = self._build()
        if self._metric is None:
            return None
        metric = self._metric.to(predicted.device)
        with torch.no_grad():
            return float(metric(predicted.permute(2, 0, 1)[None], truth.permute(2, 0, 1)[None]))

    def _build(self) -> torch.nn.Module | None:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        waited = socket.getdefaulttimeout()
        socket.setdefaulttimeout(self.timeout)
        try:
            return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).eval()
        except (OSError, RuntimeError, ModuleNotFoundError) as error:  # URLError and HTTPError are OSErrors
            CONSOLE.log(f"LPIPS is left out, the weights of its AlexNet can't be had here: {error}", markup=False)
            return None
        finally:
            socket.setdefaulttimeout(waited)
