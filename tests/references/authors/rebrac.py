"""ReBRAC: functions on JAX arrays, not compiled here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import torch

from tests.references.authors.base import Author, Named, turned, watched


class ReBRAC(Author):
    """In JAX, not compiled here."""

    files = ("algorithms/offline/rebrac.py",)
    hp: ClassVar[Named] = {
        "gamma": 0.99,
        "tau": 0.005,
        "actor_bc_coef": 0.001,
        "critic_bc_coef": 0.01,
        "policy_noise": 0.2,
    }
    hp |= {"actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3, "actor_ln": False, "critic_ln": True}
    hp |= {"noise_clip": 0.5, "policy_freq": 2, "normalize_q": True, "actor_n_hiddens": 3, "critic_n_hiddens": 3}
    meta: ClassVar[Named] = {"layernorm_eps": 1e-6, "actor_step": "index % policy_freq == 0 (0-based)"}

    def __init__(self, module: Any, meta: Named) -> None:
        import jax

        jax.config.update("jax_enable_x64", torch.get_default_dtype() == torch.float64)
        self.jax, self.m, self.hp_now, self.index = jax, module, meta["hp"], 0
        hp, state, action = meta["hp"], np.zeros((1, meta["state_dim"])), np.zeros((1, meta["action_dim"]))
        sizes = {"hidden_dim": hp["hidden_dim"], "n_hiddens": hp["actor_n_hiddens"], "layernorm": hp["actor_ln"]}
        actor = module.DetActor(meta["action_dim"], **sizes)
        sizes |= {"n_hiddens": hp["critic_n_hiddens"], "layernorm": hp["critic_ln"]}
        critic = module.EnsembleCritic(num_critics=2, **sizes)
        keys = jax.random.split(jax.random.PRNGKey(0))
        self.actor, self.critic = (
            kind.create(
                apply_fn=net.apply,
                params=params,
                target_params=params,
                tx=module.optax.adam(hp[f"{name}_learning_rate"]),
            )
            for kind, net, params, name in (
                (module.ActorTrainState, actor, actor.init(keys[0], state), "actor"),
                (module.CriticTrainState, critic, critic.init(keys[1], state, action), "critic"),
            )
        )

    def places(self, target: bool = False) -> Iterator[tuple[str, Any, str, Any]]:
        """Name in the file, the dictionary that holds the array, its key there, and the critic's number."""
        field = "target_params" if target else "params"
        (critic,) = getattr(self.critic, field)["params"].values()
        layers = [("actor", getattr(self.actor, field)["params"], self.hp_now["actor_ln"], ...)]
        layers += [(f"critic_{i + 1}", critic, self.hp_now["critic_ln"], i) for i in (0, 1)]
        for net, tree, norm, index in layers:
            for name, layer in tree.items():
                kind, number = name.split("_")
                place = int(number) * (3 if norm else 2) + 2 * (kind == "LayerNorm")
                for key in layer:
                    theirs = "bias" if key == "bias" else "weight"
                    yield f"{net}{'_target' * target}/net.{place}.{theirs}", layer, key, index

    def weights(self, targets: bool = True) -> dict[str, torch.Tensor]:
        places = [place for target in ([False, True] if targets else [False]) for place in self.places(target)]
        return {name: torch.from_numpy(turned(np.array(layer[key][i])).copy()) for name, layer, key, i in places}

    def start(self, weights: dict[str, torch.Tensor]) -> None:
        dtype = np.float64 if torch.get_default_dtype() == torch.float64 else np.float32
        for state in ("actor", "critic"):
            made = getattr(self, state)
            params = self.jax.tree.map(lambda x: np.array(x, dtype), made.params)
            setattr(self, state, made.replace(params=params))
        for name, layer, key, i in self.places():
            layer[key][i] = turned(weights[name].numpy())
        for state in ("actor", "critic"):
            made = getattr(self, state)
            params = self.jax.tree.map(self.jax.numpy.asarray, made.params)
            setattr(self, state, made.replace(params=params, target_params=params, opt_state=made.tx.init(params)))

    def step(self, batch: dict[str, torch.Tensor]) -> Named:
        jnp, m, hp = self.jax.numpy, self.m, self.hp_now
        data = {
            f"{name}s": jnp.asarray(batch[name].numpy()) for name in ("state", "action", "next_state", "next_action")
        }
        data |= {
            "rewards": jnp.asarray(batch["reward"].numpy()[:, 0]),
            "dones": jnp.asarray(batch["done"].numpy()[:, 0]),
        }
        noise = jnp.asarray(batch["noise_raw"].numpy())
        names = ("gamma", "actor_bc_coef", "critic_bc_coef", "tau", "policy_noise", "noise_clip", "normalize_q")
        settings = {name: hp[name] for name in names}
        metrics = m.Metrics.create(
            ["critic_loss", "q_min", "actor_loss", "bc_mse_policy", "bc_mse_random", "action_mse"]
        )
        policy, before = self.index % hp["policy_freq"] == 0, self.critic
        if not policy:
            settings.pop("normalize_q")
        update = m.update_td3 if policy else m.update_td3_no_targets
        old, key = self.actor, self.jax.random.PRNGKey(0)
        with mock.patch.object(self.jax.random, "normal", lambda *_: noise), watched() as seen:
            _, self.actor, self.critic, metrics = update(
                key, self.actor, self.critic, data, metrics=metrics, **settings
            )
        self.index += 1
        (v,) = seen["update_critic"]
        q = before.apply_fn(before.params, data["states"], data["actions"])
        out = {"q1_mean": q[0], "q2_mean": q[1], "target_q_mean": v["target_q"], "next_bc_mean": v["bc_penalty"]}
        out |= {"next_q_mean": v["next_q"]}
        if policy:
            q = self.critic.apply_fn(self.critic.params, data["states"], old.apply_fn(old.params, data["states"])).min(
                0
            )
            out |= {"q_pi_mean": q, "q_abs_mean": abs(q), "lmbda": 1 / abs(q).mean() if hp["normalize_q"] else 1.0}
        out |= {name: total for name, (total, n) in metrics.accumulators.items() if n and name != "bc_mse_random"}
        return {name: float(np.asarray(value, np.float64).mean()) for name, value in out.items()}
