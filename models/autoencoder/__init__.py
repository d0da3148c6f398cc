"""The autoencoder of the device: simulated healthy courses, training, export to int8 LiteRT, parity gate."""
