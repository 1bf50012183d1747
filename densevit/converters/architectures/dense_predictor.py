"""The whole model: constants beside the network, which the configuration has."""

from densevit.converters.architecture import Architecture, Tolerated

ARCHITECTURE = Architecture(
    "DensePredictor", tolerated=Tolerated(unused=(r"data_preprocessor\..*", "pixel_mean.*", "pixel_std.*"))
)
