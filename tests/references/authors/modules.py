"""wPC, IQL, CQL and A2PR: trainers of PyTorch modules."""

from __future__ import annotations

import types
from typing import Any, ClassVar

import torch

from tests.references.authors.base import ACT, TD3, ModulesAuthor, Named, Seen


class WPC(ModulesAuthor):
    files = ("algorithms/offline/wpc.py",)
    targets: ClassVar[Named] = {
        "actor": "actor_target",
        "critic_1": "critic_1_target",
        "critic_2": "critic_2_target",
        "vnet": None,
    }
    hp: ClassVar[Named] = TD3
    meta: ClassVar[Named] = {"lr": 3e-4}

    def make(self, m: Any, hp: Named, meta: Named) -> Any:
        s, a, bound = meta["state_dim"], meta["action_dim"], meta["max_action"]
        nets = {"actor": m.Actor(s, a, bound), "critic_1": m.Critic(s, a), "critic_2": m.Critic(s, a)}
        nets["vnet"] = m.Vnet(s)
        adam = {f"{name}_optimizer": torch.optim.Adam(net.parameters(), meta["lr"]) for name, net in nets.items()}
        scaled = {name: hp[name] * bound for name in ("policy_noise", "noise_clip")}
        return m.TD3_BC(bound, **nets, **adam, **({name: hp[name] for name in TD3} | scaled))

    def outputs(self, seen: Seen) -> Named:
        (v,) = seen["TD3_BC.train"]
        out = {"critic_loss": v["critic_loss"], "q1_mean": v["current_q1"], "q2_mean": v["current_q2"]}
        out |= {"target_q_mean": v["target_q"], "vnet_loss": v["vnet_loss"], "bc_ratio": v["bc_weight"]}
        out |= {"v_mean": v["value"], "q1_after_mean": v["q1"], "adv_mean": v["q1"] - v["value"]}
        if "pi" in v:
            square = torch.square(v["pi"] - v["action"])
            out |= {"actor_loss": v["actor_loss"], "q_pi_mean": v["q"], "q_abs_mean": v["q"].abs()}
            out |= {"lmbda": v["lmbda"], "alpha_used": self.trainer.alpha}
            out |= {"bc_mse": square, "bc_weighted": square * v["bc_weight"]}
        return out


class IQL(ModulesAuthor):
    files = ("algorithms/offline/iql.py",)
    draws: ClassVar[Named] = {}
    targets: ClassVar[Named] = {"actor": None, "qf": "q_target", "vf": None}
    hp: ClassVar[Named] = {"discount": 0.99, "tau": 0.005, "iql_tau": 0.7, "beta": 3.0}
    hp |= dict.fromkeys(("vf_lr", "qf_lr", "actor_lr"), 3e-4)
    meta: ClassVar[Named] = {"T_max": 1_000_000, "policy": "gaussian", "dropout": None, "exp_adv_max": 100.0}
    meta |= {"log_std_min": -20.0, "log_std_max": 2.0}

    def make(self, m: Any, hp: Named, meta: Named) -> Any:
        s, a, bound = meta["state_dim"], meta["action_dim"], meta["max_action"]
        policy = m.GaussianPolicy if meta["policy"] == "gaussian" else m.DeterministicPolicy
        nets = {"vf": m.ValueFunction(s), "qf": m.TwinQ(s, a), "actor": policy(s, a, bound)}
        nets = {name: net.to(torch.get_default_dtype()) for name, net in nets.items()}
        v, q, actor = (torch.optim.Adam(net.parameters(), hp[f"{name}_lr"]) for name, net in nets.items())
        rest = {name: hp[name] for name in ("iql_tau", "beta", "discount", "tau")}
        made = (bound, nets["actor"], actor, nets["qf"], q, nets["vf"], v)
        return m.ImplicitQLearning(*made, max_steps=meta["T_max"], **rest)

    def train(self, batch: list[torch.Tensor]) -> None:
        self.rate = self.trainer.actor_optimizer.param_groups[0]["lr"]
        super().train(batch)

    def outputs(self, seen: Seen) -> Named:
        (v,), (q,), (p,) = (seen[f"ImplicitQLearning._update_{name}"] for name in ("v", "q", "policy"))
        out = {"value_loss": v["v_loss"], "v_mean": v["v"], "target_q_mean": v["target_q"], "adv_mean": v["adv"]}
        out |= {"adv_pos_frac": v["adv"] > 0, "q_loss": q["q_loss"], "q1_mean": q["qs"][0], "q2_mean": q["qs"][1]}
        out |= {"next_v_mean": q["next_v"], "backup_mean": q["targets"], "actor_loss": p["policy_loss"]}
        out |= {"exp_adv_mean": p["exp_adv"], "exp_adv_clipped_frac": p["exp_adv"] >= 100}
        out |= {"bc_loss_mean": p["bc_losses"], "actor_lr_used": self.rate}
        out |= {"actor_lr_after": self.trainer.actor_optimizer.param_groups[0]["lr"]}
        actor = self.trainer.actor
        return out | ({"log_std_mean_after": actor.log_std} if hasattr(actor, "log_std") else {})


class CQL(ModulesAuthor):
    files = ("algorithms/offline/cql.py",)
    targets: ClassVar[Named] = {"critic_1": "target_critic_1", "critic_2": "target_critic_2", "actor": None}
    draws: ClassVar[Named] = {"noise_new": (1,), "noise_next": (1,), "uniform_random_actions": (10, 1)}
    draws |= {"noise_cql_current": (10, 1), "noise_cql_next": (10, 1)}
    hp: ClassVar[Named] = {
        "discount": 0.99,
        "soft_target_update_rate": 0.005,
        "alpha_multiplier": 1.0,
        "policy_lr": 3e-5,
    }
    hp |= {"use_automatic_entropy_tuning": True, "backup_entropy": False, "qf_lr": 3e-4, "bc_steps": 0}
    hp |= {"target_update_period": 1, "cql_n_actions": 10, "cql_importance_sample": True, "cql_lagrange": False}
    hp |= {"cql_target_action_gap": -1.0, "cql_temp": 1.0, "cql_alpha": 10.0, "cql_max_target_backup": False}
    hp |= {"orthogonal_init": True, "q_n_hidden_layers": 3, "policy_log_std_multiplier": 1.0}
    meta: ClassVar[Named] = {"target_entropy": -float(ACT)}
    OF_NETWORKS = ("orthogonal_init", "q_n_hidden_layers", "policy_log_std_multiplier")

    def make(self, m: Any, hp: Named, meta: Named) -> Any:
        s, a, orthogonal = meta["state_dim"], meta["action_dim"], hp["orthogonal_init"]
        nets = {f"critic_{i}": m.FullyConnectedQFunction(s, a, orthogonal, hp["q_n_hidden_layers"]) for i in (1, 2)}
        scale = hp["policy_log_std_multiplier"]
        nets["actor"] = m.TanhGaussianPolicy(s, a, meta["max_action"], scale, orthogonal_init=orthogonal)
        nets = {name: net.to(torch.get_default_dtype()) for name, net in nets.items()}
        rates = {"critic_1": hp["qf_lr"], "critic_2": hp["qf_lr"], "actor": hp["policy_lr"]}
        adam = {f"{name}_optimizer": torch.optim.Adam(net.parameters(), rates[name]) for name, net in nets.items()}
        rest = {name: value for name, value in hp.items() if name in CQL.hp and name not in self.OF_NETWORKS}
        trainer = m.ContinuousCQL(**nets, **adam, target_entropy=meta["target_entropy"], **rest)
        for scalar in (trainer.log_alpha, trainer.log_alpha_prime):
            scalar.to(torch.get_default_dtype())
        return trainer

    def outputs(self, seen: Seen) -> Named:
        (v,), (q,) = seen["ContinuousCQL.train"], seen["ContinuousCQL._q_loss"]
        out = {name: v[name] for name in ("log_pi", "policy_loss", "alpha_loss", "alpha", "qf_loss", "alpha_prime")}
        out |= {name: q[name] for name in ("qf1_loss", "qf2_loss", "alpha_prime_loss")}
        for i in (1, 2):
            out |= {name: q[name] for name in (f"cql_std_q{i}", f"cql_q{i}_rand", f"cql_min_qf{i}_loss")}
            out |= {
                name: q[name] for name in (f"cql_qf{i}_diff", f"cql_q{i}_current_actions", f"cql_q{i}_next_actions")
            }
            out |= {f"average_qf{i}": q[f"q{i}_predicted"]}
        out |= {"average_target_q": q["target_q_values"], "log_alpha_after": self.trainer.log_alpha.constant}
        return out | {"log_alpha_prime_after": self.trainer.log_alpha_prime.constant}


class A2PR(ModulesAuthor):
    files = ("core/network/actor.py", "core/network/critic.py", "A2PR.py")
    targets: ClassVar[Named] = {"actor": "actor_target", "critic": "critic_target", "value": None, "vae": None}
    draws: ClassVar[Named] = {"noise_raw": (1,), "vae_eps": (2,), "vae_eps_pi": (2,)}
    hp: ClassVar[Named] = TD3 | {"actor_lr": 3e-4, "critic_lr": 3e-4, "mask": 1.0, "vae_weight": 1.0}
    meta: ClassVar[Named] = {"latent_dim": 2 * ACT, "value_lr": 3e-4, "vae_lr": 1e-3}

    def make(self, m: Any, hp: Named, meta: Named) -> Any:
        rest = {name: hp[name] for name in A2PR.hp}
        return m.A2PR(meta["state_dim"], meta["action_dim"], meta["max_action"], "cpu", **rest)

    def train(self, batch: list[torch.Tensor]) -> None:
        sample = (*batch[:4], 1 - batch[4])
        self.trainer.train(types.SimpleNamespace(sample=lambda _: sample))

    def outputs(self, seen: Seen) -> Named:
        (v,), encoded = seen["A2PR.train"], seen["VAE.forward"][0]
        out = {"critic_loss": v["critic_loss"], "q1_mean": v["current_Q1"], "q2_mean": v["current_Q2"]}
        out |= {"target_q_mean": v["target_Q"], "value_loss": v["value_loss"], "v_mean": v["value"]}
        out |= {"t_q_mean": v["t_Q"], "vae_loss": v["vae_loss"], "recon_loss": v["recon_loss"], "kl_loss": v["KL_loss"]}
        out |= {"vae_adv_frac": v["Q_vae"] > v["value"], "adv_mean": v["Q_vae"] - v["value"]}
        out |= {"vae_mean_mean": encoded["mean"], "vae_std_mean": encoded["std"]}
        if "pi" in v:
            out |= {name: v[name] for name in ("actor_loss", "bc_loss", "combined_loss", "lmbda")}
            out |= {"q_pi_mean": v["Q"], "q_abs_mean": v["Q"].abs(), "adv_action_mean": v["advantage_action"]}
            out |= {"adv_recon_mean": v["advantage_pi"], "bc_on_frac": v["adv_pi"] | v["adv_action"]}
            out |= {"recon_chosen_frac": v["advantage_pi"] >= v["advantage_action"]}
            out |= {"bc_mse": torch.square(v["pi"] - v["action"])}
        return out
