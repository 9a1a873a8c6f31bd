"""Many pictures through the champion, in shards; and whether they are still what it was trained on."""
