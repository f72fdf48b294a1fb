"""Sizes, tile shapes and scratch memory shared by all kernels of one population."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import triton
from torch import Tensor

from aspc_fast.agent.layout import Shapes
from aspc_fast.agent.state import Batch, Hyper, Spec
from aspc_fast.kernels.common import HYPER_COLUMNS, INTERPRETED

DOT_INPUTS = {"tf32": "tf32", "fp32": "ieee", "bf16": "bf16"}  # a user's precision -> the kernels' PRECISION

CRITIC_METRICS = ("critic_loss", "q1_mean")
ACTOR_METRICS = ("actor_loss", "q_pi_mean", "q_abs_mean", "bc_mse", "alpha_used", "lambda")
META_METRICS = (
    *("eq1", "eq2", "eq3", "ema_q", "delta_q", "bc_sup", "delta_bc_sup"),
    *("q_new_mean", "q_new_abs_mean", "bc_mse_new"),
    *("alpha_loss", "alpha_grad", "alpha_grad_eq1", "alpha_grad_eq2", "alpha_grad_eq3", "alpha_lr_used"),
)
METRICS = (*CRITIC_METRICS, *ACTOR_METRICS, "alpha_after", *META_METRICS)  # row of metrics [M, R]


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple that is not below ``value``."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class Tiles:
    """Tile shapes: rows per program and depth per loop step, warps and pipeline stages; the weight kernel's own below.

    ``chain``: products of a row tile with a whole H x H weight that one launch of a pass covers at most, so 1 is about
    a layer per launch. ``paired``, for whole chains: target pass and the online critics' forward layers share a launch.
    ``registers``: the passes' limit per thread; left alone, the assembler may spill a few bytes to get below 128, for
    the sake of a second program on the multiprocessor.
    """

    rows: int = 16
    chain: int = 16
    depth: int = 16
    warps: int = 8
    stages: int = 4
    registers: int = 255
    weight_rows: int = 64
    weight_cols: int = 64
    actor_weight_cols: int = 32  # on meta steps the actor's program holds two gradients
    weight_depth: int = 32
    weight_warps: int = 8
    weight_stages: int = 3
    paired: bool = False


@dataclass(frozen=True)
class Sizes:
    """What the chained kernels are compiled for, one argument of each: observation and action entries, units; the
    critic's hidden layers, whether they have LayerNorm and how many vectors each has; samples; row strides of
    [observation, action] and of actions; rows of a tile, depth of a loop step, dot precision."""

    D: int
    A: int
    H: int
    L: int
    NORM: bool
    VECTORS: int
    B: int
    KP: int
    AP: int
    BM: int
    BK: int
    PRECISION: str


@dataclass(frozen=True)
class Problem:
    """Sizes of a population's update: R runs, B samples, the networks' shapes; dot precision and tiles."""

    runs: int
    batch: int
    shapes: Shapes
    precision: str = "ieee"
    tiles: Tiles = Tiles()

    @property
    def layers(self) -> int:
        """L: hidden layers of the critic."""
        return 3 if self.shapes.robust else 2

    @property
    def row_tiles(self) -> int:
        """T: programs per network and run in the chained kernels."""
        return -(-self.batch // self.tiles.rows)

    def cuts(self, products: Sequence[float]) -> list[tuple[int, int]]:
        """The launches of a pass as ranges of its links; ``products``: H x H products that each link makes. A link
        without one goes with the next."""
        ranges, first, made = [], 0, 0.0
        for link, count in enumerate(products):
            made += count
            if made >= self.tiles.chain or link == len(products) - 1:
                ranges.append((first, link + 1))
                first, made = link + 1, 0.0
        return ranges

    @property
    def vectors(self) -> int:
        """Vectors of one hidden critic layer: bias, and LayerNorm's gain and shift."""
        return 3 if self.shapes.robust else 1

    @property
    def sizes(self) -> Sizes:
        """The chained kernels' compile-time argument."""
        s, t, strides = self.shapes, self.tiles, (self.input_stride, self.action_stride)
        own = (s.obs_dim, s.act_dim, s.hidden_dim, self.layers, s.robust, self.vectors, self.batch)
        return Sizes(*own, *strides, t.rows, t.depth, self.precision)

    @property
    def options(self) -> dict[str, int]:
        """The chained kernels' launch options."""
        t = self.tiles
        return {"num_warps": t.warps, "num_stages": t.stages, "maxnreg": t.registers, "enable_fp_fusion": True}

    @property
    def input_stride(self) -> int:
        """Row length of stored [observation, action]: a multiple of 16, so that rows start aligned."""
        return round_up(self.shapes.obs_dim + self.shapes.act_dim, 16)

    @property
    def action_stride(self) -> int:
        """Row length of stored actions: the power of two from 16 that a tile of a matmul wants."""
        return max(16, 1 << (self.shapes.act_dim - 1).bit_length())

    @property
    def critic_partials(self) -> int:
        """Entries of one row tile's sums: vectors of each hidden layer, last weight [H], last bias, loss, sum of Q."""
        return self.layers * self.vectors * self.shapes.hidden_dim + self.shapes.hidden_dim + 16

    @property
    def actor_partials(self) -> int:
        """Entries of one row tile's sums: three biases."""
        return 2 * self.shapes.hidden_dim + self.action_stride


TILES = {
    "latency": Tiles(),  # few runs: a program goes through all layers
    "throughput": Tiles(rows=64, chain=1, depth=32, stages=3),  # many runs: weights are read once per 64 rows
}
BLACKWELL = 100  # compute capability


def tiles_of(shape: str, capability: int, compiler: str = triton.__version__) -> Tiles:
    """The named shape's tiles for a GPU of this compute capability (90 for 9.0) and this version of Triton."""
    tiles = TILES[shape]
    spills = capability >= BLACKWELL or compiler.startswith("3.7.")  # 64 rows do, in LayerNorm's backward pass
    return replace(tiles, rows=32) if shape == "throughput" and spills else tiles


def fit(tiles: Tiles, spec: Spec) -> Tiles:
    """No larger than batch and width ask for. Under the interpreter large ones: there a program costs time, not
    registers."""
    if INTERPRETED:
        tiles = replace(tiles, rows=256, depth=256, weight_rows=256, weight_cols=256, weight_depth=256)
        tiles = replace(tiles, actor_weight_cols=256)
    rows = max(16, 1 << (spec.config.batch_size - 1).bit_length())
    return replace(tiles, rows=min(tiles.rows, rows), depth=min(tiles.depth, spec.shapes.hidden_dim))


def make_problem(spec: Spec, runs: int, dtype: torch.dtype, precision: str, tiles: Tiles) -> Problem:
    """The problem of a population of ``runs``; precision: tf32, fp32 or bf16."""
    inputs = "ieee" if dtype == torch.float64 else DOT_INPUTS[precision]
    return Problem(runs, spec.config.batch_size, spec.shapes, inputs, tiles)


class Workspace:
    """All scratch memory of one population: named views of one flat ``tape``, zero at first.

    Padding columns are written once, here, and stay zero. Row strides: inputs KP, anything of actions AP, else H.
    """

    def __init__(self, problem: Problem, dtype: torch.dtype, device: torch.device | str) -> None:
        p, h = problem, problem.shapes.hidden_dim
        runs, batch, tiles = p.runs, p.batch, p.row_tiles
        shapes: dict[str, tuple[int, ...]] = {
            # a batch
            "inputs": (runs, batch, p.input_stride),  # [observation, action, 0 ...]
            "next_inputs": (runs, batch, p.input_stride),  # [next observation, 0 ...]
            "noise": (runs, batch, p.action_stride),
            "rewards": (runs, batch),
            "terminals": (runs, batch),
            # target pass, critics
            "next_actions": (runs, 2, batch, p.action_stride),
            "q_target": (runs, 2, batch),
            "outputs": (runs, 2, p.layers, batch, h),  # of hidden layers, after LayerNorm
            "activated": (runs, 2, p.layers, batch, h),  # after ReLU, before LayerNorm
            "stats": (runs, 2, p.layers, 2, batch),  # mean and 1 / standard deviation of ``activated``
            "d_hidden": (runs, 2, p.layers, batch, h),  # gradient before the activation
            "critic_sums": (runs, 2, tiles, p.critic_partials),
            # actor: axis of length 2 = before and after its step (q, bc); whole gradient and gQ (d_...)
            "hidden": (runs, 2, batch, h),  # the two hidden layers
            "squashed": (runs, batch, p.action_stride),
            "actions": (runs, batch, p.action_stride),
            "dq": (runs, batch, p.action_stride),
            "motion": (runs, batch, p.action_stride),
            "q": (2, runs, batch),
            "bc": (2, runs, batch),
            "slope_q": (runs, batch),
            "slope_bc": (runs, batch),
            "d_actor": (runs, 2, 2, batch, h),
            "d_squashed": (runs, 2, batch, p.action_stride),
            "actor_sums": (runs, 2, tiles, p.actor_partials),
        }
        self.offsets: dict[str, int] = {}
        size = 0
        for name, shape in shapes.items():
            self.offsets[name] = size
            size = round_up(size + torch.Size(shape).numel(), 64)
        self.problem, self.shapes = problem, shapes
        self.tape = torch.zeros(size, dtype=dtype, device=device)
        self.direction = torch.zeros(runs, p.shapes.actor.size, dtype=dtype, device=device)  # d theta'/d alpha
        self.clock = torch.zeros(8, dtype=torch.float64, device=device)
        self.metrics = torch.zeros(len(METRICS), runs, dtype=dtype, device=device)
        self.sums = torch.zeros(len(METRICS), runs, dtype=torch.float64, device=device)

    def __getitem__(self, name: str) -> Tensor:
        start, shape = self.offsets[name], self.shapes[name]
        return self.tape[start : start + torch.Size(shape).numel()].view(shape)

    def load(self, batch: Batch) -> None:
        """Take in a batch from outside."""
        d, a = self.problem.shapes.obs_dim, self.problem.shapes.act_dim
        self["inputs"][..., :d].copy_(batch.observations)
        self["inputs"][..., d : d + a].copy_(batch.actions)
        self["next_inputs"][..., :d].copy_(batch.next_observations)
        self["noise"][..., :a].copy_(batch.noise)
        self["rewards"].copy_(batch.rewards)
        self["terminals"].copy_(batch.terminals)

    def batch(self) -> Batch:
        """The batch in use, as views."""
        d, a = self.problem.shapes.obs_dim, self.problem.shapes.act_dim
        inputs = self["inputs"]
        return Batch(
            *(inputs[..., :d], inputs[..., d : d + a], self["rewards"]),
            *(self["next_inputs"][..., :d], self["terminals"], self["noise"][..., :a]),
        )


def hyper_table(hyper: Hyper, dtype: torch.dtype) -> Tensor:
    """[R, 16] in ``dtype``: the per-run hyper-parameters in the columns that ``common`` names."""
    known = hyper.tensors()
    none = torch.zeros_like(hyper.discount)  # TD3+BC has no outer loss
    learns_alpha = torch.full_like(none, float("alpha_lr" in known))
    columns = (
        *(hyper.discount, hyper.tau, hyper.policy_noise, hyper.noise_clip, hyper.max_action),
        *(hyper.actor_lr, hyper.critic_lr),
        *(known.get(name, none) for name in ("alpha_lr", "ema", "weight_eq2", "weight_eq3")),
        *(learns_alpha, hyper.true_act_dim, hyper.reward_factor, hyper.reward_shift),
    )
    table = torch.zeros(len(hyper.seeds), HYPER_COLUMNS.value, dtype=dtype, device=hyper.seeds.device)
    table[:, : len(columns)] = torch.stack([c.to(dtype) for c in columns], dim=1)
    return table
