"""Prefect flows around the stages: order, retries and the promotion gate; the only home of Prefect."""
