"""Losses as functions: elementwise values, summed and normalized by the head that knows over what."""
