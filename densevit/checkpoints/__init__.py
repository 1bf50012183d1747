"""Files of weights: read safely, loaded with a report, written, fetched."""
