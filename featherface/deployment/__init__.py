"""Files for deployment from one command, each checked by its outputs and by what it finds."""
