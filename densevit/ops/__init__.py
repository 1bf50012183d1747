"""Functions on boxes, anchors, masks and maps: no parameters, no state, no config."""
