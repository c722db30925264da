"""Wrapping the layers of a model, and unwrapping them."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from mofgap.balora.config import ALL_LINEAR, BaLoRAConfig, as_patterns
from mofgap.balora.kinds import NAMES, adapted_kind, is_linear, reason_against, refuse_lazy
from mofgap.balora.layer import AdaptedLayer
from mofgap.balora.saved import TrainedModule, trained_modules

_NESTED = "balora_nested_tensor"
"""Attribute of a torch transformer that keeps whether it used nested tensors."""


def adapt(model: nn.Module, config: BaLoRAConfig) -> dict[str, AdaptedLayer]:
    """Freeze a model and wrap the layers that the config names, in place.

    Everything but A, B and the modules to save is frozen. What is unfrozen afterwards is trained, not saved.
    A is initialised from torch's global generator.

    Args:
        model: Any module with layers of `mofgap.balora.kinds` inside.
        config: Which layers, and how.

    Returns:
        The adapted layers by name, in the model's order.

    Raises:
        ValueError: If a pattern of ``config`` matches no layer that can be adapted, or the model is adapted
            already, by PEFT too, or has lazy layers that were never called.
        ValueError: If a matched layer cannot be adapted: it does more than its kind, or it is the output
            projection of ``nn.MultiheadAttention``, which is never called.
    """
    if adapted_layers(model):
        raise ValueError("the model is adapted already; merge or unadapt it first")
    if any(type(module).__module__.startswith("peft.") for module in model.modules()):
        raise ValueError(
            "the model is adapted by PEFT: call its merge_and_unload, or load its folder instead"
        )
    refuse_lazy(model)
    found, trained = layers_to_adapt(model, config), to_save(model, config.modules_to_save)
    model.requires_grad_(False)
    layers = {}
    for name, base in found.items():
        kind, rank = adapted_kind(base), config.rank_of(name)
        assert kind is not None
        alpha = config.scaling_of(name) * rank
        layers[name] = kind(base, rank=rank, lora_alpha=alpha, init_scale=config.init_scale)
        layers[name].train(base.training)
    _keep_off_fast_paths(model, layers)
    saved = {module: TrainedModule(module) for module in trained.values()}
    _replace(model, {**{layer.base: layer for layer in layers.values()}, **saved})
    return layers


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLayer]:
    """The adapted layers of a model by name, in its order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLayer)}


def batches_averaged(model: nn.Module) -> dict[str, int]:
    """Number of batches in the running means of each normalisation by name, without ``modules_to_save``."""
    saved = {each for module in trained_modules(model).values() for each in module.modules()}
    counts = {n: getattr(m, "num_batches_tracked", None) for n, m in model.named_modules() if m not in saved}
    return {name: int(count) for name, count in counts.items() if count is not None and not count.is_meta}


def warn_of_unsaved(model: nn.Module, before: Mapping[str, int]) -> None:
    """A Python warning of what training changed and a folder of adapters does not hold.

    Args:
        model: The adapted model.
        before: Its `batches_averaged` before training.
    """
    moved = [name for name, count in batches_averaged(model).items() if count != before.get(name)]
    if moved:
        warnings.warn(
            f"{_some(moved)}: training moved running means, which are not saved; name the module in "
            "modules_to_save, or put it in evaluation mode after model.train()",
            stacklevel=3,
        )
    kept = {id(p) for module in trained_modules(model).values() for p in module.trained.parameters()}
    for layer in adapted_layers(model).values():
        kept |= {id(p) for p in layer.parameters()} - {id(p) for p in layer.base.parameters()}
    lost = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in kept]
    if lost:
        warnings.warn(
            f"{_some(lost)}: trained, but not saved; name the module in modules_to_save", stacklevel=3
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")


@contextmanager
def warned_of_uncalled(layers: Mapping[str, AdaptedLayer]) -> Iterator[None]:
    """Warn of layers that do not run while open: some attention reads a weight and never calls its layer."""
    called: set[nn.Module] = set()
    hooks = [layer.register_forward_pre_hook(lambda each, _: called.add(each)) for layer in layers.values()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if missed := [name for name, layer in layers.items() if layer not in called]:
        shown = ", ".join(missed[:3]) + (f" and {len(missed) - 3} more" if len(missed) > 3 else "")
        warnings.warn(
            f"adapted layers did not run in the first forward in training mode: {shown}; an adapter learns "
            "nothing where the model reads the weight of its layer without a call: name other target_modules",
            stacklevel=3,
        )


def unadapt(model: nn.Module) -> None:
    """Restore the base layers and drop the adapters. Parameters stay frozen."""
    _back_on_fast_paths(model)
    for layer in adapted_layers(model).values():
        layer.restore_base()
    replacements: dict[nn.Module, nn.Module] = {m: m.original for m in trained_modules(model).values()}
    _replace(model, replacements | {layer: layer.base for layer in adapted_layers(model).values()})


@contextmanager
def undone_if_it_fails(model: nn.Module) -> Iterator[None]:
    """While open, an error takes new adapters off again; parameters are trained or frozen as before."""
    asked = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    is_new = not adapted_layers(model)
    try:
        yield
    except BaseException:
        if is_new:
            unadapt(model)
        for parameter, wanted in asked:
            parameter.requires_grad_(wanted)
        raise


def merge(model: nn.Module) -> None:
    """Add the mean updates to the weights and restore the base layers. Parameters stay frozen."""
    _back_on_fast_paths(model)
    saved = trained_modules(model).values()
    replacements: dict[nn.Module, nn.Module] = {m: m.trained.requires_grad_(False) for m in saved}
    _replace(model, replacements | {layer: layer.merge() for layer in adapted_layers(model).values()})


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern of ``target_modules`` matches the module of this name."""
    return name == pattern or name.endswith(f".{pattern}") or re.fullmatch(pattern, name) is not None


def layers_to_adapt(model: nn.Module, config: BaLoRAConfig) -> dict[str, nn.Module]:
    """The layers that a config names, by name, in the model's order.

    Raises:
        ValueError: If `targets` raises it, or no layer that ``config`` names has an index in its
            ``layers_to_transform``.
    """
    if config.target_modules == ALL_LINEAR:
        found = _all_linear(model)
    else:
        found = targets(model, config.target_modules)
    trained = to_save(model, config.modules_to_save)
    found = {n: m for n, m in found.items() if not any(f"{n}.".startswith(f"{name}.") for name in trained)}
    wanted = config.layers_to_transform
    if wanted is not None and wanted != ():
        indices = (wanted,) if isinstance(wanted, int) else wanted
        patterns, whole = as_patterns(config.layers_pattern), config.target_modules
        by_name = set(whole) if isinstance(whole, tuple) else set[str]()  # a whole name needs no index
        found = {n: m for n, m in found.items() if n in by_name or _index(n, patterns) in indices}
    if not found:
        raise ValueError("no layer is left to adapt: modules_to_save and layers_to_transform leave none")
    return found


def targets(model: nn.Module, patterns: str | tuple[str, ...]) -> dict[str, nn.Module]:
    """The layers that some patterns match, by name, in the model's order.

    Raises:
        ValueError: If a pattern matches no layer that can be adapted, or a matched layer cannot be adapted:
            it does more than its kind, or it is the output projection of ``nn.MultiheadAttention``, which is
            never called.
    """
    known = {n: m for n, m in model.named_modules() if n and adapted_kind(m) is not None}
    for pattern in as_patterns(patterns):
        if not any(matches(name, pattern) for name in known):
            raise ValueError(_nothing_found(pattern, known, model))
    found = {n: m for n, m in known.items() if any(matches(n, pattern) for pattern in as_patterns(patterns))}
    _check(found)
    if isinstance(patterns, tuple):
        _check_others(model, known, patterns)
    return found


def _all_linear(model: nn.Module) -> dict[str, nn.Module]:
    """All linear layers except the output layer of a language model, as in PEFT.

    Raises:
        ValueError: If the model has no linear layer, or one of them does more than its kind.
    """
    output = getattr(model, "get_output_embeddings", lambda: None)()
    found = {n: m for n, m in model.named_modules() if n and is_linear(m) and m is not output}
    if not found:
        raise ValueError("target_modules='all-linear' finds no linear layer in the model")
    _check(found)
    return found


def to_save(model: nn.Module, endings: tuple[str, ...]) -> dict[str, nn.Module]:
    """The modules that are trained whole, by name: ``classifier`` names ``pre_classifier`` too, as in PEFT.

    Raises:
        ValueError: If no name of a module ends in one of ``endings``, or one is a list of modules.
    """
    found = {n: m for n, m in model.named_modules() if n.endswith(endings)}
    for ending in endings:
        if not any(name.endswith(ending) for name in found):
            raise ValueError(f"modules_to_save: the model has no module {ending!r}")
    for name, module in found.items():
        if isinstance(module, nn.ModuleList | nn.ModuleDict):
            raise ValueError(f"modules_to_save: {name} is a container; name the modules in it")
    return found


def _check_others(model: nn.Module, known: Mapping[str, nn.Module], endings: tuple[str, ...]) -> None:
    """Refuse a name that a layer of another kind has too, which would be left out in silence."""
    for name, module in model.named_modules():
        ending = next((e for e in endings if name == e or name.endswith(f".{e}")), None)
        if ending and name not in known and module._parameters:
            raise ValueError(_wrong_kind(ending, name, module))


def _wrong_kind(pattern: str, name: str, module: nn.Module) -> str:
    return f"{pattern!r} finds {name}, a {type(module).__name__}; only {NAMES} can be adapted"


def _check(found: Mapping[str, nn.Module]) -> None:
    for name, module in found.items():
        if reason := reason_against(module):
            raise ValueError(f"{name} {reason}")


def _index(name: str, patterns: tuple[str, ...]) -> int | None:
    """Index of the block that a layer is in, by the rules of PEFT."""
    for pattern in patterns or (r"[^.]*",):
        if found := re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", name):
            return int(found[1])
    return None


def _nothing_found(pattern: str, known: Mapping[str, nn.Module], model: nn.Module) -> str:
    for name, module in model.named_modules():
        if name and matches(name, pattern):
            return _wrong_kind(pattern, name, module)
    names = [*known, *dict.fromkeys(name.rpartition(".")[2] for name in known)]
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4) or list(known)[:5]
    hint = f"similar names: {', '.join(near)}" if near else "the model has none"
    return f"{pattern!r} finds no {NAMES} in the model; {hint}"


def _replace(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Replace modules in all their parents; a module may have several names."""
    for parent in list(model.modules()):
        if parent in replacements:
            continue
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                setattr(parent, name, replacements[child])


def _keep_off_fast_paths(model: nn.Module, layers: Mapping[str, AdaptedLayer]) -> None:
    """Make torch's own transformer layers call their linear layers.

    In evaluation they pass the weights to a fused kernel instead, so that no adapter runs. A hook on a layer
    inside switches the kernel off. Nested tensors need that kernel, so they are switched off too.
    """
    for name, module in model.named_modules():
        inside = [layer for key, layer in layers.items() if not name or key.startswith(f"{name}.")]
        if inside and isinstance(module, nn.TransformerEncoder):
            setattr(module, _NESTED, module.use_nested_tensor)
            module.use_nested_tensor = False
        if isinstance(module, nn.TransformerEncoderLayer):
            for layer in inside:
                layer.register_forward_pre_hook(_do_nothing)


def _back_on_fast_paths(model: nn.Module) -> None:
    """Let torch's own transformers use nested tensors again, if they did before."""
    for module in model.modules():
        if hasattr(module, _NESTED):
            module.use_nested_tensor = getattr(module, _NESTED)
            delattr(module, _NESTED)


def _do_nothing(module: nn.Module, args: object) -> None:
    """A hook whose presence switches the fused kernel off."""
