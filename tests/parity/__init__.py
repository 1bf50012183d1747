"""Numbers of ours beside those of other projects' own code: what tools/check_parity.py runs.

A case is NAME.json with NAME.npz beside it: the reference's configuration in its own terms, the names and shapes of
its state dict (each tensor is generated from its name, so that files stay small), inputs and outputs. `case` reads one,
`probes` find the tensors of our model that the outputs are, `compare` builds, loads and compares, `command` prints.
"""
