"""Which of MViTv2's tensors are a case's outputs."""

from collections.abc import Mapping


def probe_mvit(model, inputs: Mapping) -> tuple[dict[str, dict], list[str]]:
    """Tokens after a block (`block0`), the last ones normed (`norm`), and the maps (`scale2`)."""
    after: dict = {}
    hooks = [
        b.register_forward_hook(lambda _, __, out, i=i: after.update({i: out})) for i, b in enumerate(model.blocks)
    ]
    maps = model(*inputs.values())
    for hook in hooks:
        hook.remove()
    probes = {f"block{i}": tokens for i, tokens in after.items()}
    probes |= {f"scale{i + 2}": image for i, image in zip(model.out_indices, maps, strict=True)}
    if model.output_norm == "last":
        probes["norm"] = model.norm(after[max(after)])
    return {"": probes}, []
