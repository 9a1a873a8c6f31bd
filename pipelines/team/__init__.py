"""The team set-up on one machine: PostgreSQL, S3 store, MLflow server, Prefect server and worker."""
