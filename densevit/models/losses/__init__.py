"""Losses as functions: elementwise values, summed and normalised by the head that knows over what."""
