"""Training: data, targets, trainers and metrics. Clips are read with the runtime's own decoder and features."""
