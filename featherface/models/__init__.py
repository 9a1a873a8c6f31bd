"""The networks: torch modules and priors; nothing here opens a file, picks a device, logs or seeds."""
