"""What can go wrong. The texts are those of the service, as `gaia worker` logs them."""

__all__ = [
    "ClockError",
    "ConfigError",
    "DivergedError",
    "EndedError",
    "Error",
    "RowError",
    "ServiceError",
    "ShapeError",
]


class Error(Exception):
    """Anything that this package raises by itself."""


class ConfigError(Error, ValueError):
    """The input has to be put right: settings, environment, certificates, ports."""


class RowError(Error, IndexError):
    """A table or a row that does not exist, or was never read."""


class ShapeError(Error, ValueError):
    """Values that do not have the shape of the rows they are meant for, or do not lie in C order."""


class ClockError(Error):
    """A clock beyond the job's last, or a result that was asked for before it."""


class DivergedError(Error, ArithmeticError):
    """What was added is NaN or infinite; nothing of the clock was sent. `Job.discard` takes it back."""


class EndedError(Error):
    """The worker has left its servers: it was asked to, or its region leaves the job for good."""


class ServiceError(Error, ConnectionError):
    """The servers cannot be reached any more, or refuse what was said."""
