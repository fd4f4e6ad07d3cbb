# SPDX-License-Identifier: Apache-2.0
"""A team of processes compared with one, in a process of its own that the tests start."""

import copy
import traceback

import torch
import torch.distributed as dist
from small_transformers import Inputs, plain_engine, random_model

from hydra_model.config import SamplerConfig
from hydra_model.fast.team import lead
from hydra_model.sampler import sample


@torch.inference_mode()
def largest_errors(processes: int) -> dict[str, float]:
    """Run forward, pair and sampling by one process and by a team; relative differences."""
    model = random_model()
    inputs = Inputs(model, 1, 6, 6)
    pair = inputs.conditionings(model)
    config = SamplerConfig(steps=3, guidance_scale=3.0, guidance_interval=(0.8, 1.0))
    team = copy.deepcopy(model)
    cpu = torch.device("cpu")
    leader = lead(team, plain_engine(cpu), plain_engine, [cpu] * processes)
    calls = {
        "forward": lambda m: m(inputs.target, inputs.sigma, pair[0]),
        "pair": lambda m: torch.cat(m.pair(inputs.target, inputs.sigma, *pair)),
        "sampling": lambda m: sample(m, inputs.target, pair[0], config, negative=pair[1]),
        # Latent frames that cannot be split evenly: the leader alone.
        "odd": lambda m: m(inputs.target[:, :, :5], inputs.sigma, odd[0]),
    }
    inputs.cameras = inputs.cameras[0], inputs.cameras[1][:, :5]
    whole = inputs.target
    inputs.target = whole[:, :, :5]
    odd = inputs.conditionings(model)
    inputs.target = whole
    errors = {}
    for name, call in calls.items():
        expected = call(model)
        errors[name] = ((call(team) - expected).norm() / expected.norm()).item()
    chosen, expected = [], []
    team(inputs.target, inputs.sigma, pair[0], selections=chosen)
    model(inputs.target, inputs.sigma, pair[0], selections=expected)
    pairs = zip(chosen, expected, strict=True)
    errors["selections"] = float(not all(torch.equal(a[:, -6:], b[:, -6:]) for a, b in pairs))
    leader.stop()
    dist.destroy_process_group()
    return errors


def answer_largest_errors(processes, answers) -> None:
    """Put what ``largest_errors`` returns, or its traceback, into the queue ``answers``."""
    torch.set_num_threads(1)
    try:
        answers.put(largest_errors(processes))
    except BaseException:
        answers.put(traceback.format_exc())
