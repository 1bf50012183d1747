"""Decoding files of pixels: images, class maps, depth maps."""
