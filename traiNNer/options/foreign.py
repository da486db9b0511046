"""Keys and names of other trainers (traiNNer-redux, neosr, BasicSR and older ones, KAIR), each with
one true sentence: what it is called here, or that it is not part of this version.

The nearest name by spelling would mislead: `network_d` is no mistyped `network_g`. Names are in the
spelling of `normalize`. A key that a section of ours takes never gets here.
"""

from __future__ import annotations

import re

from traiNNer.options.yaml_parser import KeyPath
from traiNNer.utils.registry import normalize

GAN = (
    "adversarial training is network_d, train.optim_d and a loss {type: gan} in train.losses here; "
    "what goes beyond it is not part of this version yet"
)
OTF = (
    "degradations made while training are a list of steps here, degradations, in the section of a "
    "SingleGtDataset; the recipe realesrgan has Real-ESRGAN's ranges"
)
_SHARPER = "a loss compares with sharper GT by gt_usm: true beside its type, in train.losses"
_MIXING = (
    "augmentations that mix images are datasets.train.augmentations here, the share of the samples "
    "for each: {mixup: 0.1, cutmix: 0.1, resizemix: 0.1, cutblur: 0.3, cutout: 0, downup: 0}"
)
PERCEPTUAL = (
    "losses of features are {type: perceptual}, lpips and dists in train.losses here; others are "
    "not part of this version yet"
)
_LOSS = (
    "losses are a list here, train.losses, each with a type and a loss_weight; --explain "
    "train.losses lists those there are"
)
_COLOUR = "colour is RGB in and out, 3 channels; leave it out"
_READING = (
    "images are read from the files in dataroot_gt and dataroot_lq, checked at the start; leave it "
    "out"
)
_LOADER = "the loader decides that itself; leave it out"
_PROCESSES = (
    "torchrun or num_gpu: n starts the processes, and all else follows (docs/distributed.md); "
    "leave it out"
)
_PATCH = "the patch is given by its LQ side, lq_size; the GT side is lq_size * scale"
_OPTIMIZER = "arguments of the optimizer stand in train.optim_g"
_SCHEDULE = (
    "the schedule is train.scheduler, for example {type: MultiStepLR, milestones: [...], gamma: "
    "0.5}"
)
_AVERAGE = (
    "the moving average needs no section: train.ema_decay gives its decay, and it is saved as "
    "net_g_ema"
)
_TEACHER = (
    "another network's pictures are targets by network_g_teacher, and train.distillation says how"
)
_CURVES = "curves go to TensorBoard alone (logger.use_tb_logger); leave it out"
_EXPORT = "exporting to other formats is not part of this version; leave it out"
_FREEZE = "freezing a network's parts is not part of this version; leave it out"
_ABSENT = "this is not part of this version; leave it out"
_DATA = "it belongs into a section below datasets, as dataroot_lq or dataroot_gt"


def called(name: str, more: str = "") -> str:
    """A sentence about something that is there under another name."""
    return f"it is called {name} here{more}"


# By section; "" is for what may be met in any other.
_SENTENCES: dict[str, dict[str, tuple[str, ...]]] = {
    "": {
        GAN: (
            "net_d", "scheduler_d", "gan_opt", "cls_opt", "d_update_ratio", "d_init_iters",
            "d_reg_every", "gan_weight", "gan_loss", "ganloss", "pretrain_model_d",
            "pretrained_net_d", "param_key_d", "which_model_d", "lr_d", "net_d_reg_every",
            "wavelet_guided", "wavelet_init",
        ),
        OTF: (
            "degradations", "degradation", "high_order_degradation",
            "high_order_degradations_debug", "high_order_degradations_debug_limit", "otf",
            "lq_usm", "lq_usm_radius_range", "queue_size",
            "resize_prob", "resize_prob2", "resize_range", "resize_range2", "resize_mode_list",
            "gaussian_noise_prob", "gaussian_noise_prob2", "noise_range", "noise_range2",
            "poisson_scale_range", "poisson_scale_range2", "gray_noise_prob", "gray_noise_prob2",
            "jpeg_range", "jpeg_range2", "jpeg_prob", "jpeg_prob2", "second_blur_prob", "blur_prob",
            "blur_kernel_size", "blur_kernel_size2", "kernel_list", "kernel_list2", "kernel_prob",
            "kernel_prob2", "kernel_range", "kernel_range2", "sinc_prob", "sinc_prob2",
            "blur_sigma", "blur_sigma2", "betag_range", "betag_range2", "betap_range",
            "betap_range2", "final_sinc_prob",
            "final_kernel_size", "resize_mode_prob", "lr_downscale", "lr_blur", "lr_noise",
            "hr_noise", "resize_types", "dataset_degradations", "compression",
        ),
        _SHARPER: ("l1_gt_usm", "percep_gt_usm", "gan_gt_usm", "use_usm"),
        _MIXING: (
            "moa", "use_moa", "moa_augs", "moa_probs",
            "moa_debug", "moa_debug_limit", "augmentation", "aug_prob", "augs",
            "use_augmentation", "mixture_of_augmentations", "use_batch_augmentation",
        ),
        PERCEPTUAL: (
            "perceptual_opt", "perceptual", "perceptual_weight", "style_weight", "feature_weight",
            "feature_criterion", "vgg_opt", "dists_opt", "lpips_opt", "lpips_weight", "cx_type",
            "cx_weight", "contextual_opt", "percep_opt", "use_input_norm", "range_norm",
        ),
        _LOSS: (
            "pixel_opt", "pix_opt", "l1_opt", "mssim_opt", "ms_ssim_opt", "ssim_opt", "fft_opt",
            "ff_opt", "fdl_opt", "ldl_opt", "color_opt", "luma_opt", "hue_opt", "tv_opt",
            "hfen_opt", "edge_opt", "consistency_opt", "msswd_opt", "kl_opt", "focal_opt", "gv_opt",
            "gradient_opt", "charbonnier_opt", "pixel_criterion", "pixel_weight", "loss", "loss_fn",
            "criterion", "tv_type", "tv_weight", "ssim_type", "ssim_weight", "hfen_criterion",
            "hfen_weight", "fft_type", "fft_weight", "g_lossfn_type", "g_lossfn_weight",
            "match_lq_colors", "match_lq", "fix_loss",
        ),
        _READING: (
            "io_backend", "meta_info", "meta_info_file", "meta_info_gt", "meta_info_lq",
            "data_type", "subset_file", "client_keys", "lmdb", "znorm", "mean", "std",
            "use_cache", "cache_data", "preload", "use_memory", "outputs_lq",
        ),
        _LOADER: (
            "pin_memory", "prefetch_mode", "num_prefetch_queue", "persistent_workers",
            "prefetch_factor", "dataloader_shuffle", "use_shuffle", "shuffle", "cuda_prefetch",
        ),
        _PROCESSES: (
            "dist", "dist_params", "launcher", "find_unused_parameters",
            "use_static_graph", "auto_resume_dist", "rank", "world_size", "local_rank", "port",
        ),
        _PATCH: ("gt_size", "hr_size", "h_size", "gt_patch_size", "crop_size", "patch_size"),
        _OPTIMIZER: (
            "optim", "optimizer", "optimizers", "optim_params", "lr", "lr_g", "weight_decay",
            "weight_decay_g", "beta1", "beta2", "beta1_g", "beta2_g", "betas", "learning_rate",
            "g_optimizer_type", "g_optimizer_lr", "g_optimizer_wd", "optim_type",
        ),
        _SCHEDULE: (
            "schedulers", "lr_scheme", "lr_steps", "lr_steps_rel", "lr_gamma", "lr_scheduler",
            "lr_policy", "lr_decay", "milestones", "gamma", "restarts", "restart_weights",
            "eta_min", "periods", "g_scheduler_type", "g_scheduler_milestones",
            "g_scheduler_gamma", "scheduler_g", "t_period",
        ),
        _AVERAGE: (
            "net_g_ema", "network_g_ema", "ema", "e_decay", "ema_g", "use_ema", "model_ema",
            "pretrain_network_g_ema", "strict_load_g_ema", "ema_update_every",
            "ema_update_after_step", "ema_switch_iter", "net_g_ema_decay",
        ),
        _CURVES: ("wandb", "wandb_project", "use_wandb", "resume_id", "mlflow", "clearml", "comet"),
        _EXPORT: (
            "onnx", "use_onnx", "opset", "use_dynamo", "dynamo", "output_folder_onnx",
            "export", "quantize",
        ),
        _FREEZE: (
            "freeze_iter", "freeze_layers", "fix_flow", "frozen", "freeze_loc",
            "ignore_resume_networks",
        ),
        _ABSENT: (
            "sam", "sam_init", "sam_opt",
            "swa", "use_swa", "swa_opt", "detect_anomaly", "print_network",
            "network_f", "backup_freq", "dml", "qat",
            "suffix", "pbar", "use_pbar", "overwrite_chkp", "phase", "max_minibatch",
            "sample_interval", "use_petite",
        ),
        _TEACHER: (
            "eco", "eco_schedule", "eco_iters", "eco_init", "network_teacher", "teacher",
            "network_t", "pretrain_eco", "use_eco",
        ),
        "it is self_ensemble: x8 in test.py's options": (
            "selfensemble_testing", "self_ensemble", "test_time_aug", "geometric_ensemble",
        ),
        "TensorBoard shows val.tb_images of each val set": ("save_tb_img",),
        _COLOUR: ("n_channels", "image_channels", "color", "in_nc", "out_nc"),
        _DATA: ("dataroot", "input_folder", "data_root", "dataset_root"),
        "the run's folders are those of path.experiments_root": ("root", "log_root"),
        "the weights inside a file are found without it; leave it out": (
            "param_key_g", "param_key",
        ),
        called("lq_size"): ("lr_size", "l_size", "lq_patch_size"),
        called("dataroot_gt"): (
            "dataroot_hr", "dataroot_h", "dataroot_b", "gt_path", "hr_path", "gt_folder", "gt_dir",
            "dataroot_hq", "gt",
        ),
        called("dataroot_lq"): (
            "dataroot_lr", "dataroot_l", "dataroot_a", "lq_path", "lr_path", "lq_folder", "lq_dir",
            "lq",
        ),
        called("batch_size_per_gpu"): (
            "batch_size", "batch", "bs", "dataloader_batch_size", "samples_per_gpu",
        ),
        called("num_worker_per_gpu"): (
            "num_worker", "num_workers", "n_workers", "num_workers_per_gpu", "workers",
            "workers_per_gpu", "dataloader_num_workers",
        ),
        "datasets.train.accum_iter says how many batches make an iteration": (
            "accumulate", "accum", "accum_iters", "gradient_accumulation",
            "gradient_accumulation_steps", "virtual_batch_size",
        ),
        "repeats of each image in an epoch are dataset_enlarge_ratio": (
            "repeat", "repeats", "enlarge_ratio", "dataset_repeat",
        ),
        called("use_hflip"): ("use_flip", "hflip", "flip", "random_flip"),
        called("use_rot"): ("rot", "use_rotate", "use_rotation", "rotate", "random_rot"),
        called("use_time_flip"): ("random_reverse", "use_time_reverse"),
        called("clip_size"): ("num_frame", "num_frames", "n_frames", "clip_length"),
        called("frame_stride"): ("interval_list", "frame_interval"),
        called("network_g"): ("net_g", "network", "which_model_g", "generator", "backbone"),
        called("model_type"): ("model", "model_name"),
        called("use_amp", " (amp_bf16: false for fp16)"): (
            "amp", "mixed_precision", "fp16", "use_fp16", "half", "use_half", "precision",
        ),
        called("amp_bf16", " (beside use_amp: true)"): (
            "bf16", "use_bf16", "bfloat16", "use_bfloat16", "amp_dtype",
        ),
        called("use_checkpointing"): (
            "gradient_checkpointing", "use_checkpoint", "activation_checkpointing",
        ),
        called("use_compile"): ("compile", "torch_compile", "compile_mode", "compile_model"),
        called("use_channels_last"): ("channels_last", "memory_format"),
        called("fast_matmul"): ("tf32", "use_tf32", "allow_tf32", "matmul_precision"),
        called("manual_seed"): ("seed", "random_seed"),
        called("num_gpu"): ("gpu_ids", "gpu_id", "gpus", "gpu", "device", "cuda", "num_gpus"),
        called("datasets"): ("dataset",),
        called("path.pretrain_network_g"): (
            "pretrain_model_g", "pretrained_net_g", "pretrain_model", "pretrain", "pretrained",
            "load_from", "model_path", "pretrained_model",
        ),
        called("path.strict_load_g"): ("strict", "strict_load", "g_param_strict"),
        called("path.resume_state"): ("resume", "resume_from", "resume_path", "resume_opt"),
        called("train.total_iter"): (
            "niter", "n_iter", "total_iters", "max_iters", "max_iter", "iterations", "num_iter",
            "max_steps", "total_steps",
        ),
        "the length is given in iterations, train.total_iter; the plan converts it to epochs": (
            "epochs", "epoch", "total_epochs", "num_epochs", "n_epochs", "max_epochs",
        ),
        called("train.warmup_iter"): ("warmup_iters", "warmup_steps"),
        called("train.grad_clip"): (
            "use_grad_clip", "clip_grad", "clip_grad_norm", "gradient_clip", "gradient_clipping",
            "g_optimizer_clipgrad",
        ),
        called("train.grad_clip_max_norm"): ("max_norm", "grad_clip_norm", "clip_norm"),
        called("val.val_freq"): ("checkpoint_test", "val_interval", "eval_freq", "test_freq"),
        called("val.val_enabled"): ("metrics_enabled", "validate", "val_metrics_enabled"),
        called("val.tile_size"): ("tile", "tiles"),
        called("val.tile_overlap"): ("tile_pad", "overlap", "tile_padding"),
        called("val.save_img"): ("save_image", "save_images", "save_img_freq", "save_results"),
        called("logger.print_freq"): ("checkpoint_print", "log_freq", "log_interval"),
        called("logger.save_checkpoint_freq"): (
            "checkpoint_save", "save_freq", "save_interval", "checkpoint_freq",
        ),
        called("logger.use_tb_logger"): ("tensorboard", "use_tensorboard", "tb_logger", "use_tb"),
        "weights are always saved as safetensors; leave it out": ("save_checkpoint_format",),
        "it is part of training_automations: {enabled: true, DynamicBatchAndPatchSizeOptimizer: "
        "{}}": ("dynamic_batch_size", "auto_batch_size", "auto_batch", "autobatch"),
        "the seed is manual_seed, and deterministic: true allows only kernels that repeat": (
            "benchmark", "cudnn_benchmark", "use_deterministic",
        ),
    },
    "network_g": {
        _COLOUR: (
            "num_in_ch", "num_out_ch", "in_nc", "out_nc", "in_chans", "in_channels", "out_channels",
            "in_ch", "out_ch", "n_channels", "n_colors", "image_channels", "color", "n_out",
        ),
        _ABSENT: ("flash_attn", "use_flash_attn"),
        "it is use_checkpointing, at the top": (
            "use_checkpoint", "gradient_checkpointing", "with_cp", "checkpointing",
        ),
        "the network is built at the scale that stands at the top; leave it out": (
            "scale", "upscale", "sf", "upscaling_factor", "upscale_factor", "up_scale", "factor",
        ),
        "the network's name is given by type": ("which_model_g", "net_type", "name"),
        "this network's width and depth have other names; --explain network_g.TYPE lists them": (
            "num_feat", "num_feats", "nf", "n_feats", "n_feat", "ngf", "num_features",
            "feature_channels", "dim", "embed_dim", "num_grow_ch", "gc", "num_block", "num_blocks",
            "nb", "n_blocks", "n_resblocks", "num_conv", "depth",
        ),
    },
    "network_d": {_COLOUR: ("num_in_ch", "in_nc", "in_channels", "in_ch", "input_nc")},
    "losses": {
        called("loss_weight"): ("weight", "w", "lambda", "pixel_weight", "l_weight"),
        called("label"): ("name",),
        "losses are means over all pixels; leave it out": ("reduction",),
        "mixes are written as two losses, each with its loss_weight": ("alpha",),
        "this loss compares in one way; leave it out": ("criterion",),
        called("real_label"): ("real_label_val",),
        called("layers"): ("layer_weights",),
        called("backbone"): ("vgg_type",),
        called("fake_label"): ("fake_label_val",),
    },
    "metrics": {
        "each metric knows itself whether higher or lower is better; leave it out": ("better",),
        called("test_y_channel"): ("y_channel", "use_y", "only_y"),
        called("crop_border"): ("border", "crop", "shave"),
    },
    "optim_g": {
        "rates of parts of the network are factors by a part of their weights' names, in lr_mul": (
            "flow_lr_mul", "dcn_lr_mul", "param_groups",
        ),
        "the warm-up is train.warmup_iter": ("warmup_steps", "warmup_iter"),
        _ABSENT: ("schedule_free",),
    },
    "scheduler": {
        "the warm-up is train.warmup_iter": ("warmup_steps", "warmup_iter", "warmup"),
        "restarts are those of type: CosineAnnealingWarmRestarts": (
            "restarts", "restart_weights", "periods",
        ),
        "milestones, step_size and gamma take their place": ("lr_steps", "lr_gamma"),
    },
}  # fmt: skip

_TABLE = {
    section: {normalize(key): sentence for sentence, keys in sentences.items() for key in keys}
    for section, sentences in _SENTENCES.items()
}
# The second network of a GAN, however a trainer writes it, and what belongs to it.
_DISCRIMINATOR = re.compile(r"(net|optim|scheduler|lr|pretrain|strict|param)\w*_d")
# Sections in which a key means something of its own; what is deeper comes first.
_OWN_SECTIONS = ("losses", "metrics", "optim_g", "scheduler", "network_g", "network_d")


def explain_foreign_key(path: KeyPath) -> str | None:
    """A sentence about a key of other trainers, None for any other key.

    Args:
        path: of the unknown key, list items and labels included.
    """
    spelling = normalize(str(path[-1]))
    for section in _OWN_SECTIONS:
        if section in path[:-1]:
            return _TABLE[section].get(spelling)
    if _DISCRIMINATOR.fullmatch(str(path[-1]).lower()):
        return GAN
    # Second and third stages of a degradation are numbered: blur_prob2, resize_mode_list3.
    return _TABLE[""].get(spelling) or _TABLE[""].get(spelling.rstrip("23"))
