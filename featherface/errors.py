"""The errors that are for people: the command line prints each in one line.

It exits with 2 for those that a user can cause and mend, which are `FeatherFaceError`, and with 1 for others.
"""


class FeatherFaceError(Exception):
    """A mistake in what was handed in: the message says what was got and what to do."""


class ConfigError(FeatherFaceError):
    """A params.yaml that cannot be used; names file, key and what is allowed."""


class DataError(FeatherFaceError):
    """Photographs, annotations or predictions that cannot be used."""


class ImageDecodeError(DataError):
    """A file that is no image, or a broken one."""


class ModelError(FeatherFaceError):
    """Weights or an exported file that do not fit the network they were given to."""


class DownloadError(FeatherFaceError):
    """Something of other people's that cannot be had, or is not what was asked for."""


class OptionError(FeatherFaceError, ValueError):
    """An argument of a public call outside what is allowed; names it, what was got and what fits."""


class EndedEarlyError(RuntimeError):
    """Work that ended without a fault of the user's; the message says what is left of it and what to do."""
