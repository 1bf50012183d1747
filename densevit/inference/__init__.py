"""Using a trained model: Predictor, Prediction, tiles, videos, sliding window, test-time augmentation."""
