"""Whether torch.compile works on this machine."""

import torch

from densevit.errors import ConfigError


def require_compiler(device: torch.device) -> None:
    """Compile a small function for a device, as torch looks for what it builds code with only when a model runs.

    Raises:
        ConfigError: no code can be built, such as for want of a C++ compiler.
    """
    try:
        with torch.no_grad():
            torch.compile(_small)(torch.zeros(8, device=device))
    except Exception as error:  # of many types, by backend and by what is missing
        error = getattr(error, "inner_exception", error)  # what the backend met, not dynamo's account of it
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            f"torch.compile cannot build code for {device.type!r} here ({said}): install a C++ compiler, such as g++ "
            "(CXX names another), or do without compiling."
        ) from None


def _small(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1
