"""Files for deployment, and the proof that they equal the network."""
