import numpy as np
import pytest
import torch

from aspc_fast.agent import philox


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers that come with Random123 (Salmon et al.)
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter, key, expected):
    words = philox.philox(tuple(torch.tensor([c]) for c in counter), tuple(torch.tensor([k]) for k in key))
    assert [int(w) for w in words] == list(expected)


def test_numbers_do_not_depend_on_neighbours_or_chunks():
    seeds, lengths = torch.tensor([7, 3, 2**40 + 7]), torch.tensor([1000, 50, 1000])
    together = philox.sample_indices(seeds, torch.arange(1, 9), lengths, 250)
    alone = philox.sample_indices(seeds[1:2], torch.tensor([5]), lengths[1:2], 250)
    assert torch.equal(together[4, 1], alone[0, 0])
    assert not torch.equal(together[:, 0], together[:, 2])  # the high word of the seed counts


def test_indices_are_uniform_and_in_range():
    indices = philox.sample_indices(torch.tensor([1]), torch.arange(1, 400), torch.tensor([10]), 256)
    counts = np.bincount(indices.flatten().numpy(), minlength=10)
    expected = indices.numel() / 10
    assert counts.size == 10
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_normals_have_normal_moments_and_tails():
    normals = philox.standard_normals(torch.tensor([1]), torch.arange(1, 200), 256, 6, torch.float64).flatten()
    n = normals.numel()
    assert abs(float(normals.mean())) < 4 / n**0.5
    assert abs(float(normals.var()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float((normals.abs() > 2).double().mean()) - 0.0455) < 0.002
    assert float((normals.view(-1, 2)[:, 0] * normals.view(-1, 2)[:, 1]).mean().abs()) < 0.02


@pytest.mark.parametrize("width", [1, 3, 4, 6])
def test_padding_the_action_space_keeps_the_true_columns(width):
    arguments = (torch.tensor([5]), torch.tensor([9]), 17)
    narrow = philox.standard_normals(*arguments, width, torch.float64)
    wide = philox.standard_normals(*arguments, 30, torch.float64)
    assert torch.equal(narrow, wide[..., :width])


def test_streams_differ():
    seeds, steps = torch.tensor([0]), torch.tensor([1])
    draws = [philox.words(seeds, steps, s, 8) for s in (philox.STREAM_INDEX, philox.STREAM_NOISE, philox.STREAM_INIT)]
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])
