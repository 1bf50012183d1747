"""The rule engine: names carried over, shifted, split, merged, dropped, and named where unknown."""

import pytest
import torch

from densevit.converters.architectures import ARCHITECTURES, pvt
from densevit.converters.key_mapping import fill, invert, match, remap, rules
from densevit.registry import MODELS

TABLES = {
    f"{kind}-{source}": (kind, table) for kind in ("PVT", "PVTv2") for source, table in ARCHITECTURES[kind].keys.items()
}


def state(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.full((2, 2), float(i)) for i, name in enumerate(names)}


def test_numbers_are_carried_over_and_shifted_on_either_side():
    found = rules("layers.{}.1.{+1}.norm.->block{+1}.{}.norm.")
    renamed = remap(state("layers.0.1.1.norm.weight", "layers.11.1.13.norm.bias"), found)
    assert list(renamed.state) == ["block1.0.norm.weight", "block12.12.norm.bias"]
    back = remap(renamed.state, invert(found))
    assert list(back.state) == ["layers.0.1.1.norm.weight", "layers.11.1.13.norm.bias"]


def test_a_shift_below_zero_is_no_match():
    assert match("layers.{}.1.{+1}.norm.*", "layers.0.1.0.norm.weight") is None
    assert match("stages.{-1}.*", "stages.0.x") == (1, "x")
    assert fill("block{-1}.*", (3, "a.b")) == "block2.a.b"


def test_a_dot_in_a_pattern_is_a_dot():
    assert match("a.b", "axb") is None


def test_the_first_rule_that_fits_wins():
    found = rules("!head. *->model.*")
    renamed = remap(state("head.weight", "stem"), found)
    assert renamed.ignored == ["head.weight"]
    assert list(renamed.state) == ["model.stem"]


def test_unknown_names_are_listed_and_not_passed_on():
    renamed = remap(state("known", "strange.one", "strange.two"), rules("known"))
    assert renamed.unknown == ["strange.one", "strange.two"]
    assert list(renamed.state) == ["known"]


def test_one_tensor_is_split_and_put_together_again():
    split = rules("a.{}.qkv->a.{}.q|a.{}.kv", change=(pvt.split_query, pvt.pack_query))
    packed = torch.arange(24.0).reshape(12, 2)
    renamed = remap({"a.3.qkv": packed}, split)
    assert torch.equal(renamed.state["a.3.q"], packed[:4])
    assert torch.equal(renamed.state["a.3.kv"], packed[4:])
    assert renamed.origin["a.3.kv"] == ("a.3.qkv",)
    assert torch.equal(remap(renamed.state, invert(split)).state["a.3.qkv"], packed)


def test_a_merge_without_its_second_half_is_unknown():
    join = rules("q|kv->qkv", change=(pvt.pack_query,))
    assert remap(state("q"), join).unknown == ["q"]


def test_a_change_of_numbers_without_a_way_back_is_not_inverted():
    with pytest.raises(ValueError, match="no inverse"):
        invert(rules("a->b", change=(torch.neg,)))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("linear", [False, True], ids=["", "linear"])
def test_every_table_is_a_bijection_on_its_backbone(name, linear):
    kind, table = TABLES[name]
    if linear and kind == "PVT":
        pytest.skip("v1 has no linear variant")
    sizes = dict(embed_dims=[8, 16, 40, 64], depths=[2, 1, 1, 2], num_heads=[1, 2, 5, 8], mlp_ratios=[2] * 4)
    sizes["sr_ratios"] = [8, 4, 2, 1]
    if kind == "PVTv2":
        sizes["linear"] = linear
    ours = {k: torch.randn_like(v) for k, v in MODELS.build(dict(type=kind, arch=sizes)).state_dict().items()}
    theirs = remap(ours, invert(table))
    assert not theirs.unknown
    again = remap(theirs.state, table)
    assert not again.unknown
    assert not again.ignored
    assert again.state.keys() == ours.keys()
    assert all(torch.equal(again.state[key], value) for key, value in ours.items())


@pytest.mark.parametrize(
    ("kind", "source"), [(kind, name) for kind in ("Swin", "SwinV2") for name in ARCHITECTURES[kind].keys]
)
def test_every_table_of_swin_goes_both_ways(kind, source):
    table = ARCHITECTURES[kind].keys[source]
    sizes = dict(embed_dim=8, depths=[2, 1, 1, 2], num_heads=[1, 2, 2, 4], mlp_ratio=2)
    # timm has neither norms of the outputs nor absolute positions, transformers' V2 no norms
    more = dict(output_norm=False) if source == "timm" else dict(pretrain_size=32)
    ours = MODELS.build(dict(type=kind, arch=sizes, window_size=4, **more)).state_dict()
    ours = {key: torch.randn_like(value) for key, value in ours.items()}
    theirs = remap(ours, invert(table))
    assert not theirs.unknown
    again = remap(theirs.state, table)
    assert not again.unknown + again.ignored
    assert again.state.keys() == ours.keys()
    assert all(torch.equal(again.state[key], value) for key, value in ours.items())


@pytest.mark.parametrize("kind", ["FPN", "RetinaNetHead"])
def test_tables_of_necks_and_heads_go_both_ways(kind):
    table = ARCHITECTURES[kind].keys["mmdet"]
    names = [fill(rule.source[0], (3, "weight")[-rule.source[0].count("{") - 1 :]) for rule in table]
    there = remap(state(*names), table)
    assert not there.unknown
    assert list(remap(there.state, invert(table)).state) == names
