"""Networks shipped to the device, each with its manifest."""
