"""``fleet-models rul evaluate``: the engine of remaining life judged on everything recorded."""
