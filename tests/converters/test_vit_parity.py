"""ViT equals timm's and transformers' models and the papers' own code, with and without their options."""

import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import DefaultScope
from safetensors.torch import save_file

from densevit.converters import build, import_model, load_weights, translate
from densevit.converters.config_spec import UnsupportedModelError
from densevit.errors import CheckpointError, ConfigError
from densevit.registry import MODELS

NARROW = dict(embed_dim=48, depth=3, num_heads=3)
ARCH = dict(embed_dim=16, depth=2, num_heads=2, mlp_ratio=2)


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """The module with every parameter away from ones and zeros, so that each shows in the outputs."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.05 if parameter.ndim > 1 else 0.2))
    module.eval()
    return module


def assert_equal(got: torch.Tensor, want: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert got.shape == want.shape
    assert (got - want).abs().max() <= tolerance * want.abs().max()


def tokens_of(maps: torch.Tensor) -> torch.Tensor:
    return maps.flatten(2).transpose(1, 2)


@pytest.mark.parametrize(
    ("name", "args", "sizes"),
    [
        ("vit_tiny_patch16_224", {}, [(224, 224), (117, 180)]),
        ("vit_tiny_patch16_384", dict(img_size=(96, 128)), [(96, 128), (128, 96)]),
        ("vit_small_patch8_224", dict(img_size=64), [(40, 75)]),
        ("vit_base_patch32_224", {}, [(130, 170)]),
        ("vit_huge_patch14_224", dict(img_size=56, class_token=False, global_pool="avg"), [(60, 40)]),
        ("deit_tiny_distilled_patch16_224", {}, [(224, 224), (100, 60)]),
        ("deit3_small_patch16_224", {}, [(224, 224), (100, 60)]),
        ("vit_small_patch14_dinov2", dict(img_size=56), [(56, 56), (70, 42)]),
        ("vit_small_patch14_reg4_dinov2", dict(img_size=56), [(70, 42)]),
        ("vit_giant_patch14_dinov2", dict(img_size=56), [(70, 42)]),
        ("vit_medium_patch16_reg4_gap_256", dict(no_embed_class=False), [(96, 64)]),
        ("vit_small_patch16_dinov3", {}, [(96, 64), (117, 180)]),
        ("vit_small_plus_patch16_dinov3_qkvb", {}, [(117, 180)]),
        ("eva02_tiny_patch14_224", {}, [(224, 224), (70, 112)]),
        ("eva02_base_patch14_224", dict(img_size=112), [(112, 112), (70, 112)]),
        ("eva02_base_patch16_clip_224", dict(img_size=96), [(64, 112)]),
        ("eva_giant_patch14_224", dict(img_size=56, mlp_ratio=2), [(70, 42)]),
    ],
)
def test_features_equal_timms(name, args, sizes):
    timm = pytest.importorskip("timm")
    args = {**NARROW, **args}
    theirs = drawn(timm.create_model(name, dynamic_img_size=True, dynamic_img_pad=True, num_classes=5, **args))
    ours = build("timm", dict(architecture=name, model_args=args, num_classes=5))
    report = load_weights(ours, theirs.state_dict())
    assert report.complete
    assert set(report.ignored) <= {f"{n}.{k}" for n in ("head", "head_dist", "fc_norm") for k in ("weight", "bias")}
    for size in sizes:
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            assert_equal(tokens_of(ours(image)[0]), theirs.forward_features(image)[:, theirs.num_prefix_tokens :])


def test_a_folder_of_timms_opens_by_itself(tmp_path):
    timm = pytest.importorskip("timm")
    theirs = drawn(timm.create_model("deit_tiny_distilled_patch16_224", depth=2))
    config = dict(architecture="deit_tiny_distilled_patch16_224", num_classes=1000, model_args=dict(depth=2))
    (tmp_path / "config.json").write_text(json.dumps(config | dict(pretrained_cfg=dict(input_size=[3, 224, 224]))))
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    imported, image = import_model(tmp_path), torch.randn(1, 3, 224, 224)
    ours = imported.model
    with torch.no_grad():
        assert_equal(tokens_of(ours(image)[0]), theirs.forward_features(image)[:, 2:])
    assert MODELS.build(dict(imported.config)).num_prefix == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [("vit_base_patch16_clip_224", "does not have"), ("vit_relpos_small_patch16_224", "RelPosAttention")],
)
def test_models_of_timms_with_other_parts_are_reported(name, said):
    pytest.importorskip("timm")
    with pytest.raises(UnsupportedModelError, match=said):
        translate("timm", dict(architecture=name))


def test_a_name_that_timm_does_not_know_is_reported():
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match="vit_enormous"):
        translate("timm", dict(architecture="vit_enormous_patch16_224"))


@pytest.mark.parametrize(("grid", "image"), [((4, 4), (64, 64)), ((3, 5), (48, 80))])
def test_relative_positions_equal_beits_in_timm(grid, image):
    """BEiT with a table of absolute positions too, as mmsegmentation's MAE has."""
    beit = pytest.importorskip("timm.models.beit")
    sides = dict(img_size=image, patch_size=16, embed_dim=48, depth=2, num_heads=3)
    options = dict(use_abs_pos_emb=True, use_rel_pos_bias=True, init_values=0.5, num_classes=0, global_pool="token")
    theirs = drawn(beit.Beit(**sides, **options))
    arch = dict(embed_dim=48, depth=2, num_heads=3, mlp_ratio=4)
    ours = MODELS.build(
        dict(
            type="ViT",
            arch=arch,
            img_size=image,
            rel_pos=dict(kind="bias"),
            block=dict(layer_scale=1.0, key_bias=False),
        )
    ).eval()
    assert ours.grid == grid
    assert load_weights(ours, theirs.state_dict(), source="timm").complete
    x = torch.randn(2, 3, *image)
    with torch.no_grad():
        assert_equal(tokens_of(ours(x)[0]), theirs.forward_features(x)[:, 1:])


SIDES = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=3, image_size=56)
FOUND = [
    ("ViT", dict(SIDES, intermediate_size=80, patch_size=14), (70, 42)),
    ("DeiT", dict(SIDES, intermediate_size=80, patch_size=14), (70, 42)),
    ("Dinov2", dict(SIDES, patch_size=14, mlp_ratio=3, layerscale_value=0.5), (70, 42)),
    ("Dinov2", dict(SIDES, patch_size=14, use_swiglu_ffn=True, qkv_bias=False), (56, 56)),
    ("Dinov2WithRegisters", dict(SIDES, patch_size=14, num_register_tokens=3), (70, 42)),
    ("DINOv3ViT", dict(SIDES, patch_size=8, num_register_tokens=2, intermediate_size=80), (72, 40)),
    ("DINOv3ViT", dict(SIDES, patch_size=8, use_gated_mlp=True, hidden_act="silu", intermediate_size=80), (72, 40)),
    ("DINOv3ViT", dict(SIDES, patch_size=8, key_bias=True, proj_bias=False, mlp_bias=False), (72, 40)),
]


@pytest.mark.parametrize(("family", "args", "size"), FOUND)
def test_folders_of_transformers_open_with_equal_features(family, args, size, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**args)
    theirs = drawn(getattr(transformers, f"{family}Model")(config))
    theirs.save_pretrained(tmp_path)
    imported, image = import_model(tmp_path), torch.randn(2, 3, *size)
    ours = imported.model
    assert load_weights(ours, theirs.state_dict(), source="transformers").complete  # the names in memory
    options = dict(interpolate_pos_encoding=True) if family in ("ViT", "DeiT") else {}
    with torch.no_grad():
        want = theirs(image, **options).last_hidden_state
        assert_equal(tokens_of(ours(image)[0]), want[:, ours.num_prefix :])


@pytest.mark.parametrize("family", ["Dinov2", "Dinov2WithRegisters", "DINOv3ViT"])
@pytest.mark.parametrize("normed", [True, False])
def test_backbones_of_transformers_give_their_stages(family, normed, tmp_path):
    transformers = pytest.importorskip("transformers")
    args = dict(SIDES, patch_size=14, out_features=["stage1", "stage3"], apply_layernorm=normed)
    theirs = drawn(getattr(transformers, f"{family}Backbone")(getattr(transformers, f"{family}Config")(**args)))
    theirs.save_pretrained(tmp_path)
    imported, image = import_model(tmp_path), torch.randn(1, 3, 70, 42)
    ours = imported.model
    with torch.no_grad():
        for got, want in zip(ours(image), theirs(image).feature_maps, strict=True):
            assert_equal(got, want)


def test_maes_encoder_in_transformers_is_read_without_its_decoder(tmp_path):
    transformers = pytest.importorskip("transformers")
    sides = dict(SIDES, patch_size=14, intermediate_size=80, mask_ratio=0.0, decoder_hidden_size=48)
    theirs = drawn(transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**sides)))
    theirs.save_pretrained(tmp_path)
    imported, image = import_model(tmp_path), torch.randn(1, 3, 56, 56)
    ours = imported.model
    with torch.no_grad():
        out = theirs.vit(image, noise=torch.arange(16.0)[None])  # tokens in their order
        assert_equal(tokens_of(ours(image)[0]), out.last_hidden_state[:, 1:])
    assert any(name.startswith("decoder") for name in imported.load_report.ignored)


# ---- names and options of the papers' repositories ---------------------------------------------------


def small(**options):
    return drawn(MODELS.build(dict(type="ViT", arch=ARCH, patch_size=8, img_size=32, **options)))


def test_blocks_in_chunks_keep_their_numbers():
    """DINOv2's training files: `blocks.1.1.*` is block 1, in chunk 1."""
    model = small(block=dict(layer_scale=1.0))
    chunked = {}
    for name, value in model.state_dict().items():
        number = name.split(".")[1] if name.startswith("blocks.") else None
        chunked[name if number is None else name.replace("blocks.", f"blocks.{number}.", 1)] = value
    other = MODELS.build(dict(type="ViT", arch=ARCH, patch_size=8, img_size=32, block=dict(layer_scale=1.0)))
    assert load_weights(other, chunked, source="dinov2").complete
    for name, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_dinov2s_hub_sizes_are_the_published_ones():
    for arch, millions in (("vit_small", 22.1), ("vit_base", 86.6), ("vit_large", 304.4), ("vit_giant2", 1136.5)):
        gate = "swiglufused" if arch == "vit_giant2" else "mlp"
        config = dict(arch=arch, img_size=518, patch_size=14, init_values=1.0, ffn_layer=gate, block_chunks=0)
        with torch.device("meta"):
            model = build("dinov2", config)
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_deit3_is_read_from_its_repositorys_arguments_and_names():
    sides = dict(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2)
    config = dict(
        sides, qkv_bias=True, block_layers="Layer_scale_init_Block", norm_layer="partial(nn.LayerNorm, eps=1e-6)"
    )
    ours = build("timm", config)
    assert ours.pos_embed.shape == (1, 16, 16)
    names = {"ls1.gamma": "gamma_1", "ls2.gamma": "gamma_2"}
    state = {}
    for name, value in small(block=dict(layer_scale=1.0), pos_embed=dict(prefix_rows=0)).state_dict().items():
        for new, old in names.items():
            name = name.replace(new, old)
        state[name] = value
    assert load_weights(ours, state).complete


@pytest.mark.parametrize(
    ("source", "config", "said"),
    [
        ("dinov2", dict(arch="vit_enormous"), "vit_enormous"),
        ("dinov2", dict(ffn_layer="identity"), "ffn_layer"),
        ("dinov3", dict(pos_embed_rope_dtype="bf16"), "pos_embed_rope_dtype"),
        ("dinov3", dict(pos_embed_rope_dtype="fp32", norm_layer="rmsnorm"), "rmsnorm"),
        ("dinov3", dict(pos_embed_rope_dtype="fp32", storage_tokens=4), "storage_tokens"),
        ("mmseg", dict(type="VisionTransformer", pre_norm=True), "pre_norm"),
        ("mmseg", dict(type="VisionTransformer", norm_cfg=dict(type="BN")), "norm_cfg.type"),
        ("timm", dict(qk_norm=True), "qk_norm"),
        ("transformers", dict(model_type="dinov2", hidden_act="relu"), "hidden_act"),
        ("transformers", dict(architectures=["Dinov2Backbone"], model_type="dinov2", out_features=["stem"]), "stem"),
    ],
)
def test_options_that_densevit_does_not_have_are_reported(source, config, said):
    with pytest.raises(ConfigError, match=said):
        translate(source, config)


def test_mmsegmentations_older_files_have_a_bias_in_the_patches_whatever_the_configuration_says():
    config = dict(type="VisionTransformer", img_size=32, patch_size=8, embed_dims=16, num_layers=2, num_heads=2)
    assert build("mmseg", config).patch_embed.proj.bias is None
    names = [f"patch_embed.projection.{kind}" for kind in ("weight", "bias")]
    assert build("mmseg", config, names=names).patch_embed.proj.bias is not None


# ---- loading into another ViT than the file's --------------------------------------------------------


def test_a_model_without_class_token_or_norm_leaves_them_out():
    file = small().state_dict()
    model = MODELS.build(
        dict(type="ViT", arch=ARCH, patch_size=8, img_size=32, tokens=dict(cls=False), final_norm=None)
    )
    report = load_weights(model, file)
    assert report.complete
    assert set(report.ignored) == {"cls_token", "norm.weight", "norm.bias"}
    assert torch.equal(model.pos_embed, file["pos_embed"][:, 1:])


@pytest.mark.parametrize("missing", ["register_tokens", "dist_token"])
def test_tokens_that_the_patches_look_at_are_not_left_out(missing):
    file = small(tokens=dict(registers=2, dist=True)).state_dict()
    options = dict(tokens=dict(registers=2, dist=True))
    options["tokens"].pop("registers" if missing == "register_tokens" else "dist")
    model = MODELS.build(dict(type="ViT", arch=ARCH, patch_size=8, img_size=32, **options))
    with pytest.raises(CheckpointError, match=missing):
        load_weights(model, file)


def test_a_table_without_a_row_for_the_class_token_gets_a_zero_one():
    file = small(pos_embed=dict(prefix_rows=0))
    model = MODELS.build(dict(type="ViT", arch=ARCH, patch_size=8, img_size=32)).eval()
    assert load_weights(model, file.state_dict()).resized
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert_equal(model(image)[0], file(image)[0])


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_a_table_of_another_size_is_resized_once_for_all(mode):
    file = small(pos_embed=dict(mode=mode))
    args = dict(type="ViT", arch=ARCH, patch_size=8, img_size=(40, 24), pos_embed=dict(mode=mode))
    model, image = MODELS.build(args).eval(), torch.randn(1, 3, 40, 24)
    report = load_weights(model, file.state_dict())
    assert report.resized == {"pos_embed": ((1, 17, 16), (1, 16, 16))}
    with torch.no_grad():
        assert_equal(model(image)[0], file(image)[0])


def test_eva02s_own_files_have_other_names_for_the_inner_norms_and_carry_angles():
    options = dict(
        pos_embed=dict(kind="learned+rotary", base=10000.0, steps=4),
        block=dict(key_bias=False, mlp="swiglu", sub_ln=("attn", "mlp")),
    )
    model = small(**options)
    theirs = {"lm_head.weight": torch.zeros(3, 16), "mask_token": torch.zeros(1), "rope.freqs_cos": torch.zeros(1)}
    for name, value in model.state_dict().items():
        if name.endswith("attn.qkv.weight"):
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                theirs[name.replace("qkv", f"{letter}_proj")] = part
        elif name.endswith("attn.qkv.bias"):
            query, _, val = value.chunk(3)
            theirs |= {name.replace("qkv.bias", "q_bias"): query, name.replace("qkv.bias", "v_bias"): val}
        elif "mlp.fc1" in name:
            gate, val = value.chunk(2)
            theirs |= {name.replace("fc1", "w1"): gate, name.replace("fc1", "w2"): val}
        elif "periods" not in name:
            name = name.replace("mlp.fc2", "mlp.w3").replace("mlp.norm", "mlp.ffn_ln")
            theirs[name.replace("attn.norm", "attn.inner_attn_ln")] = value
    other = MODELS.build(dict(type="ViT", arch=ARCH, patch_size=8, img_size=32, **options)).eval()
    report = load_weights(other, theirs)
    assert set(report.ignored) == {"lm_head.weight", "mask_token", "rope.freqs_cos"}
    assert report.newly_initialized == ["rope_embed.periods"]
    image = torch.randn(1, 3, 32, 40)
    with torch.no_grad():
        assert_equal(other(image)[0], model(image)[0])


def test_weights_for_patches_of_14_pixels_go_into_a_model_of_16_and_the_load_report_names_what_was_resized(tmp_path):
    """The kernel as timm's loader resizes it, the table by its module; ready to use as --pretrained is."""
    timm = pytest.importorskip("timm")
    sizes = dict(embed_dim=48, depth=2, num_heads=3)
    theirs = drawn(timm.create_model("vit_small_patch14_dinov2", img_size=56, **sizes))
    torch.save(theirs.state_dict(), tmp_path / "dinov2.pth")
    options = dict(
        arch=dict(sizes, mlp_ratio=4),
        patch_size=16,
        img_size=96,
        block=dict(layer_scale=1.0),
        pos_embed=dict(antialias=True),
    )
    ours = MODELS.build(dict(type="ViT", **options)).eval()
    report = load_weights(ours, tmp_path / "dinov2.pth")
    assert report.resized == {
        "patch_embed.proj.weight": ((48, 3, 14, 14), (48, 3, 16, 16)),
        "pos_embed": ((1, 17, 48), (1, 37, 48)),
    }
    assert "2 resized" in str(report)
    other = timm.create_model("vit_small_patch14_dinov2", img_size=96, patch_size=16, num_classes=0, **sizes).eval()
    filtered = timm.models.vision_transformer.checkpoint_filter_fn(theirs.state_dict(), other)
    other.load_state_dict(filtered)
    image = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert_equal(tokens_of(ours(image)[0]), other.forward_features(image)[:, 1:])
    init = dict(type="Pretrained", checkpoint=str(tmp_path / "dinov2.pth"))
    with DefaultScope.overwrite_default_scope("densevit"):  # as every run has it
        trained = MODELS.build(dict(type="ViT", **options, init_cfg=init))
        trained.init_weights()
    assert torch.equal(trained.patch_embed.proj.weight, ours.patch_embed.proj.weight)


def test_dinov3s_periods_are_taken_from_the_file_and_computed_where_it_has_none():
    options = dict(pos_embed=dict(kind="rotary"), arch=dict(ARCH, embed_dim=32))
    file = MODELS.build(dict(type="ViT", patch_size=8, **options)).state_dict()
    model = MODELS.build(dict(type="ViT", patch_size=8, **options))
    load_weights(model, file | {"rope_embed.periods": file["rope_embed.periods"] * 2}, source="dinov3")
    assert torch.equal(model.rope_embed.periods, 2 * file["rope_embed.periods"])
    del file["rope_embed.periods"]
    report = load_weights(model, file, source="timm")
    assert report.newly_initialized == ["rope_embed.periods"]
    assert report.complete


def test_a_classifier_that_norms_the_mean_leaves_our_norm_fresh():
    file = {k.replace("norm.", "fc_norm.") if k.startswith("norm.") else k: v for k, v in small().state_dict().items()}
    report = load_weights(MODELS.build(dict(type="ViT", arch=ARCH, patch_size=8, img_size=32)), file)
    assert report.newly_initialized == ["norm.weight", "norm.bias"]
    assert report.complete


def test_factors_of_the_branches_start_fresh_where_a_file_has_none_at_all():
    plain = small().state_dict()
    options = dict(type="ViT", arch=ARCH, patch_size=8, img_size=32, block=dict(layer_scale=1.0))
    model = MODELS.build(options)
    report = load_weights(model, plain)
    assert report.complete and {name.split(".")[2] for name in report.newly_initialized} == {"ls1", "ls2"}
    file = model.state_dict()
    del file["blocks.0.ls1.gamma"]  # some of them is a torn file
    with pytest.raises(CheckpointError, match=r"blocks\.0\.ls1"):
        load_weights(MODELS.build(options), file)


SHAPES = SimpleNamespace(plain={"img_size": 32}, wide={"img_size": (32, 64)})


@pytest.mark.parametrize("args", [SHAPES.plain, SHAPES.wide])
def test_rstrudels_encoder_is_timms_with_other_norms(args):
    from densevit.converters.architectures.vit_configs import SEGMENTER
    from densevit.converters.config_spec import ConfigReader, group_options

    given = dict(image_size=args["img_size"], patch_size=8, d_model=16, n_heads=2, n_layers=2, distilled=True)
    model = MODELS.build(group_options(SEGMENTER(ConfigReader(given, "encoder"))))
    assert model.norm.eps == model.blocks[0].norm1.eps == 1e-5
    assert model.num_prefix == model.table_rows == 2
