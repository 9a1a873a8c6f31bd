"""MLflow: runs, registry and provenance; the only home of mlflow."""

import os

# MLflow reads these while it is imported, so they stand before any module that imports it. Nothing is
# reported home, and no model is ever unpickled, unless the user says otherwise.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
# Its bars would break into those of a training, for files of one MiB.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Its links to runs go to standard output, which belongs to the command's own answer.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
