"""Parameters of Gaussians, their optimizers and state, as density control sees them."""

import torch

from page4d_nerfstudio.gaussians.strategy import MotionAwareStrategy

N = 6
IN_MOTION = (True, False, True, False, False, True)


class Splats:
    """Six Gaussians, their optimizers and the strategy's state, with `means[:, 0]` as each one's mark."""

    def __init__(self, strategy: MotionAwareStrategy) -> None:
        self.strategy = strategy
        self.params = torch.nn.ParameterDict(
            {
                "means": torch.arange(float(N))[:, None].repeat(1, 3) * 100,
                "scales": torch.full((N, 3), -6.0),
                "quats": torch.tensor([1.0, 0, 0, 0]).repeat(N, 1),
                "opacities": torch.full((N, 1), 2.0),
            }
        )
        self.optimizers = {name: torch.optim.Adam([value]) for name, value in self.params.items()}
        sum(value.sum() for value in self.params.values()).backward()
        for optimizer in self.optimizers.values():
            optimizer.step()
        with torch.no_grad():
            self.params["means"].copy_(torch.arange(float(N))[:, None].repeat(1, 3) * 100)
            self.params["scales"].fill_(-6.0)
        self.state = strategy.initialize_state(1.0, torch.tensor(IN_MOTION))

    def step(self, step: int, gradients: list[float], radii: torch.Tensor | None = None) -> None:
        """A training step in which each Gaussian had that gradient of its image-plane position."""
        means2d = torch.zeros(1, N, 2, requires_grad=True)
        means2d.grad = torch.zeros(1, N, 2)
        means2d.grad[0, :, 0] = torch.tensor(gradients)
        info = {
            "width": 2,
            "height": 2,
            "n_cameras": 1,
            "radii": torch.ones(1, N, dtype=torch.int32) if radii is None else radii,
            "means2d": means2d,
        }
        self.strategy.step_post_backward(self.params, self.optimizers, self.state, step, [info])

    @property
    def marks(self) -> list[int]:
        """Which of the six each Gaussian is, or comes from."""
        return (self.params["means"][:, 0] / 100).round().int().tolist()

    def assert_in_step(self) -> None:
        n = len(self.params["means"])
        assert all(len(value) == n for value in self.params.values())
        assert all(len(value) == n for value in self.state.values() if isinstance(value, torch.Tensor))
        for name, optimizer in self.optimizers.items():
            (parameter,) = optimizer.param_groups[0]["params"]
            assert parameter is self.params[name]
            assert len(optimizer.state[parameter]["exp_avg"]) == n
