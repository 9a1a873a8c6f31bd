"""The errors that a user can cause and mend; the command line prints them in one line and exits with 2."""


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
