"""Every error that blemish raises on purpose.

```
BlemishError            anything below; the command line shows it as one line and exits with 2
├── DataError           an image, a mask or a folder is not what it should be
├── SettingsError       a setting is unknown, of the wrong kind, or out of range
├── ArtifactError       a model file is foreign, truncated, tampered with, or too old
├── CalibrationError    there are too few good images for what was promised
└── TrainingError       the training itself broke down, for example with a loss that is not a number
```

Messages say where, what was found, and what to do.
"""


class BlemishError(Exception):
    """The base of all errors that blemish raises on purpose."""


class DataError(BlemishError):
    """An image, a mask or a folder is not what it should be."""


class SettingsError(BlemishError):
    """A setting is unknown, of the wrong kind, or out of range."""


class ArtifactError(BlemishError):
    """A model file is foreign, truncated, tampered with, or too old."""


class CalibrationError(BlemishError):
    """There are too few good images for what was promised."""


class TrainingError(BlemishError):
    """The training itself broke down."""
