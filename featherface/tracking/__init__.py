"""MLflow: runs, registry and provenance; the only home of mlflow."""
