"""``advbench evaluate`` on the smallest classifier of each family of torchvision and timm, with random weights.

``python tests/families.py OUT.csv [NAME...]``; the extra ``timm`` is needed, nothing is downloaded. Each is evaluated on four
digits, scaled to 64 x 64 or to the size that its design fixes. Weights are random, so the figures only show that the command
ends with figures; the attacks of the checks take three steps, and their networks fewer than in the command. A model that is in OUT.csv already is left out. Ends with exit code 1 where one ended without.
"""

from __future__ import annotations

import csv
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from art.attacks.attack import EvasionAttack
from click.testing import CliRunner

from advbench import attacks
from advbench.cli.evaluate import evaluate
from advbench.evaluation import checking

SIZE = 64
COLUMNS = ("library", "family", "model", "parameters", "size", "n", "clean", "fgsm", "says")

TORCHVISION = {
    **{"AlexNet": "alexnet", "ConvNeXt": "convnext_tiny", "DenseNet": "densenet121", "EfficientNet": "efficientnet_b0"},
    **{"EfficientNetV2": "efficientnet_v2_s", "GoogLeNet": "googlenet", "Inception v3": "inception_v3"},
    **{
        "MaxViT": "maxvit_t",
        "MnasNet": "mnasnet0_5",
        "MobileNetV2": "mobilenet_v2",
        "MobileNetV3": "mobilenet_v3_small",
    },
    **{
        "RegNet": "regnet_y_400mf",
        "ResNet": "resnet18",
        "ResNeXt": "resnext50_32x4d",
        "Wide ResNet": "wide_resnet50_2",
    },
    **{"ShuffleNetV2": "shufflenet_v2_x0_5", "SqueezeNet": "squeezenet1_1", "Swin": "swin_t", "Swin V2": "swin_v2_t"},
    **{"VGG": "vgg11", "ViT": "vit_b_32"},
}

TIMM = {
    **{"BEiT": "beit_base_patch16_224", "BoTNet": "botnet26t_256", "CaiT": "cait_xxs24_224", "CoaT": "coat_lite_tiny"},
    **{
        "ConViT": "convit_tiny",
        "ConvMixer": "convmixer_768_32",
        "ConvNeXt": "convnext_atto",
        "CrossViT": "crossvit_tiny_240",
    },
    **{"CSPNet": "cs3darknet_focus_s", "DaViT": "davit_tiny", "DeiT": "deit_tiny_patch16_224", "DLA": "dla46x_c"},
    **{"DPN": "dpn48b", "EdgeNeXt": "edgenext_xx_small", "EfficientFormer": "efficientformer_l1"},
    **{
        "EfficientFormerV2": "efficientformerv2_s0",
        "EfficientNet": "tinynet_e",
        "EfficientViT (MIT)": "efficientvit_b0",
    },
    **{"EfficientViT (MSRA)": "efficientvit_m0", "EVA": "eva02_tiny_patch14_224", "FasterNet": "fasternet_t0"},
    **{"FastViT": "fastvit_t8", "FocalNet": "focalnet_tiny_srf", "GCViT": "gcvit_xxtiny", "GhostNet": "ghostnet_050"},
    **{"HardCoRe-NAS": "hardcorenas_a", "HGNet": "hgnetv2_b0", "Hiera": "hiera_tiny_224", "HRNet": "hrnet_w18_small"},
    **{
        "InceptionNeXt": "inception_next_atto",
        "LCNet": "lcnet_035",
        "LeViT": "levit_128s",
        "MambaOut": "mambaout_femto",
    },
    **{"CoAtNet": "coatnet_pico_rw_224", "MetaFormer": "poolformer_s12", "MLP-Mixer": "mixer_s32_224"},
    **{"MobileNetV3": "mobilenetv3_small_050", "MobileOne": "mobileone_s0", "MobileViT": "mobilevit_xxs"},
    **{
        "MViTv2": "mvitv2_tiny",
        "NesT": "nest_tiny",
        "NFNet": "nf_regnet_b0",
        "PiT": "pit_ti_224",
        "PVT v2": "pvt_v2_b0",
    },
    **{"RDNet": "rdnet_tiny", "RegNet": "regnetx_002", "RepGhost": "repghostnet_050", "RepVGG": "repvgg_a0"},
    **{"RepViT": "repvit_m0_9", "Res2Net": "res2net50_14w_8s", "ResNeSt": "resnest14d", "ResNet": "resnet10t"},
    **{"ResNetV2": "resnetv2_18", "ReXNet": "rexnet_100", "SelecSLS": "selecsls42", "SENet": "legacy_seresnet18"},
    **{"Sequencer": "sequencer2d_s", "SHViT": "shvit_s1", "SKNet": "skresnet18", "StarNet": "starnet_s050"},
    **{"SwiftFormer": "swiftformer_xs", "Swin": "swin_tiny_patch4_window7_224", "Swin V2 CR": "swinv2_cr_tiny_224"},
    **{
        "TinyViT": "tiny_vit_5m_224",
        "TNT": "tnt_s_legacy_patch16_224",
        "TResNet": "tresnet_m",
        "Twins": "twins_svt_small",
    },
    **{"Visformer": "visformer_tiny", "ViT": "vit_tiny_patch16_224", "ViT hybrid": "vit_tiny_r_s16_p8_224"},
    **{"ViTamin": "vitamin_small_224", "VOLO": "volo_d1_224", "VoVNet": "ese_vovnet19b_slim_dw"},
    **{"Xception": "legacy_xception", "XCiT": "xcit_nano_12_p16_224"},
}

FIXED = ("botnet26t_256", "crossvit_tiny_240", "efficientformer_l1")
"""Models of timm whose attention is for one size, although their configuration does not say so."""


def code_of(library: str, model: str) -> tuple[str, int]:
    """A file with a function that makes the model for ten classes, and the side of its images."""
    if library == "torchvision":
        side = {"inception_v3": 75, "maxvit_t": 224}.get(model, SIZE)
        size = f", image_size={SIZE}" if model == "vit_b_32" else ""
        make = f"torchvision.models.get_model({model!r}, num_classes=10{size})"
    else:
        import timm

        known, size = timm.get_pretrained_cfg(model), ""
        side = max(SIZE, (known.min_input_size or (0, 0, 0))[1])
        if model in FIXED:
            side = known.input_size[1]
        elif known.fixed_input_size:
            try:
                timm.create_model(model, img_size=SIZE)
                size = f", img_size={SIZE}"
            except (TypeError, AssertionError, ValueError, RuntimeError):
                side = known.input_size[1]
        make = f"timm.create_model({model!r}, pretrained=False, num_classes=10{size})"
    return f"import torch, {library}\n\n\ndef make():\n    torch.manual_seed(0)\n    return {make}\n", side


def few_steps(create: Callable[..., EvasionAttack], *arguments: object, max_iter: int = 1) -> EvasionAttack:
    return create(*arguments, max_iter=min(max_iter, 3)) if len(arguments) == 3 else create(*arguments)


def row_of(library: str, family: str, model: str) -> dict[str, object]:
    """What the command makes of one model: its figures, or its message."""
    code, side = code_of(library, model)
    with tempfile.TemporaryDirectory() as folder:
        net = Path(folder) / "net.py"
        net.write_text(code)
        arguments = (
            f"--data digits --shape 3,{side},{side} --attacks fgsm --eps 8/255 --n 4 --checks 1 --device cpu --json"
        )
        result = CliRunner().invoke(evaluate, [f"{net}:make", *arguments.split(), "--out", str(Path(folder) / "run")])
    namespace: dict[str, Callable[[], torch.nn.Module]] = {}
    exec(code, namespace)
    count = sum(parameter.numel() for parameter in namespace["make"]().parameters())
    row = {"library": library, "family": family, "model": model, "parameters": count, "size": side}
    if result.exit_code > 128:
        raise SystemExit(result.exit_code)
    if result.exit_code:
        return {**row, "says": result.stderr.strip().splitlines()[-1]}
    figures = {row["metric"]: row["value"] for row in json.loads(result.stdout)["rows"] if row["exhibit"] == "headline"}
    return {**row, "n": 4, "clean": figures["clean_accuracy"], "fgsm": figures["robust_accuracy"]}


def main(out: Path, *names: str) -> int:
    known = list(csv.DictReader(out.open())) if out.exists() else []
    wanted = [
        (library, *each) for library, found in (("torchvision", TORCHVISION), ("timm", TIMM)) for each in found.items()
    ]
    for library, family, model in wanted:
        if any((row["library"], row["model"]) == (library, model) for row in known) or (names and model not in names):
            continue
        row = row_of(library, family, model)
        known.append({column: row.get(column, "") for column in COLUMNS})
        print(*known[-1].values(), flush=True)
        with out.open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(known)
    without = [row["model"] for row in known if row["clean"] == ""]
    print(f"{len(known) - len(without)} of {len(known)} families end with figures", *without)
    return int(bool(without))


if __name__ == "__main__":
    checking.surrogate = partial(checking.surrogate, steps=5)  # type: ignore[attr-defined]
    checking.binarization_test = partial(checking.binarization_test, copies=19)  # type: ignore[attr-defined]
    attacks.create = partial(few_steps, attacks.create)  # type: ignore[assignment]
    logging.getLogger("advbench").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
