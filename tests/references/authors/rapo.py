"""RAPO: functions on dictionaries of tensors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import torch

from tests.references.authors.base import TD3, Author, Named, mean, turned, watched


class RAPO(Author):
    """Functions on dictionaries of tensors."""

    files = tuple(f"common/{name}.py" for name in ("tree", "optim", "networks", "torch_backend", "agent"))
    files += ("algorithms/torch/td3_amo.py",)
    hp: ClassVar[Named] = {name: TD3[name] for name in ("discount", "tau", "policy_noise", "noise_clip", "policy_freq")}
    hp |= {"actor_lr": 3e-4, "critic_lr": 3e-4, "actor_depth": 2, "critic_depth": 2, "critic_layernorm": False}
    hp |= {"critic_special_init": True, "meta_interval": 4, "smoothness_eps": 1e-6, "alpha_E": 5.0, "alpha_B": 5.0}
    hp |= {"alpha_lr": 1e-3, "bootstrap_loss": "l2_rms", "execution_score": "bpi", "execution_only": False}
    hp |= {"execution_meta_loss": "le", "critic_target": "actor", "algorithm": "td3_amo"}

    def __init__(self, module: Any, meta: Named) -> None:
        self.agent = module.Agent(meta["state_dim"], meta["action_dim"], meta["hp"])

    def places(self, targets: bool) -> Iterator[tuple[str, Named, str]]:
        """Name in the file, the dictionary that holds the tensor, its key there."""
        state = self.agent.state
        for kind, end in (("p", ""), ("target", "_target"))[: 1 + targets]:
            tree = state[kind]
            nets = {f"actor{end}": tree["actor"]["net"]}
            nets |= {f"critic_{i}{end}": tree["critic"][f"q{i}"] for i in (1, 2)}
            if kind == "p" and targets:
                nets["bootstrap"] = tree["bootstrap"]["net"]
            for net, layers in nets.items():
                for i, layer in enumerate(layers.values()):
                    yield f"{net}/net.{2 * i}.weight", layer, "w"
                    yield f"{net}/net.{2 * i}.bias", layer, "b"
        for scale in ("scale_E", "scale_B"):
            yield f"{scale}/rho", state["p"][scale], "rho"

    def weights(self, targets: bool = True) -> dict[str, torch.Tensor]:
        return {name: turned(layer[key].detach()).clone() for name, layer, key in self.places(targets)}

    def start(self, weights: dict[str, torch.Tensor]) -> None:
        cast = torch.get_default_dtype()
        agent, tree = self.agent, sys.modules["common.tree"]
        agent.state = tree.map_tree(lambda x: x.to(cast) if x.is_floating_point() else x, agent.state)
        for name, layer, key in self.places(targets=False):
            layer[key] = turned(weights[name].to(cast))
        online, copy = agent.state["p"], lambda net: tree.map_tree(torch.clone, net)
        online["bootstrap"] = copy(online["actor"])
        agent.state["target"] = {name: copy(online[name]) for name in ("actor", "critic")}

    def step(self, batch: dict[str, torch.Tensor]) -> Named:
        agent, hp = self.agent, self.agent.c
        names = {"state": "observations", "action": "actions", "reward": "rewards", "next_state": "next_observations"}
        names["done"] = "terminals"
        inner = {ours: batch[theirs] for theirs, ours in names.items()}
        outer = {ours: batch[f"outer_{theirs}"] for theirs, ours in names.items() if theirs != "reward"}
        agent.steps += 1
        policy = agent.steps % hp["policy_freq"] == 0
        meta = policy and agent.meta_due(agent.steps)
        with watched() as seen:
            agent.state, out = agent.step(
                agent.state, inner, outer, {"target": batch["noise_raw"]}, actor_step=policy, meta_step=meta
            )
        agent.state = agent.ops.finish(agent.state)
        if policy:
            out["bootstrap_actor_loss"] = out.pop("bootstrap_loss")
        if meta:
            updated = {call["name"]: call for call in seen["BaseAgent.update_network"]}
            out |= {f"{name}_grad": updated[name]["grads"]["rho"] for name in ("scale_E", "scale_B")}
            out["alpha_lr_used"] = updated["scale_E"]["lr"]
        out |= {f"rho_{which}_after": agent.state["p"][f"scale_{which}"]["rho"] for which in "EB"}
        return {name: mean(value) for name, value in out.items()}
