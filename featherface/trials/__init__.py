"""Short equal trainings of many configurations, judged on a development split: how a recipe is chosen."""
