"""`python -m lstm_ts.train`: stored hourly bars → a trained, scored, hashed model."""

from dataclasses import replace
from pathlib import Path

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("train")  # before what is slow to import

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from lstm_ts.cli import entry_point
from lstm_ts.configuration.parts import construct, reject_relaunch, run_folder
from lstm_ts.evaluate import score
from lstm_ts.model.artifact import save_forecasters
from lstm_ts.model.checkpoints import create_run_folder, find_checkpoint
from lstm_ts.model.extra_baselines import ExtraBaselines
from lstm_ts.scoring.wandb_log import close, log_results
from lstm_ts.training.forecasters import find_test_spans, fit, load_start, make_data, read_bars
from lstm_ts.training.trainer import build_trainer, describe_run


@entry_point("train")
def main(cfg: DictConfig) -> float:
    """Returns the best validation loss, for the sweepers."""
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        reject_relaunch(cfg)
    data = make_data(cfg, read_bars(cfg), construct(cfg.split))
    extra = ExtraBaselines(cfg.lightgbm_steps, cfg.garch, horizon=data.spec.horizon)
    spans = find_test_spans(cfg, data)
    start = load_start(cfg, data) if cfg.warm_start else None
    checkpoint = find_checkpoint(cfg.ckpt_path, Path(cfg.paths.outputs) / "train", describe_run(cfg, data))
    resumed = checkpoint.parents[1] if checkpoint and cfg.ckpt_path == "last" else None
    folder = resumed or run_folder()
    trainer = build_trainer(cfg, folder)
    if not resumed and trainer.is_global_zero:  # other processes of this run have the same folder
        create_run_folder(folder)
    try:
        fitted = fit(cfg, data, trainer, ckpt_path=checkpoint, start=start)
        scores, scored = {}, []
        for each, span, forecaster in zip(data.symbols, spans, fitted.forecasters, strict=True):
            report = folder / "scores" / (each.name if each is not data.symbols[0] else "")
            scores[report] = score(
                forecaster,
                each.bars.hourly_bars,
                span,
                source=each.bars.source,
                extra=extra,
                folder=report,
                model=folder / "model",
            )
            scored.append(replace(forecaster, scores=scores[report].to_json()))
        save_forecasters(scored, folder / "model")
        log_results(trainer.loggers, scores, folder / "model")
    finally:
        close(trainer.loggers)
    print(folder / "model")
    return fitted.loss


if __name__ == "__main__":
    main()
