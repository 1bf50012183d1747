"""MMEngine's Runner with exact resume, atomic checkpoints and config checks."""
